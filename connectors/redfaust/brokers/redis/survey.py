"""How far groups have come, and how the servers are: for people who look after them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from faust.types import TP
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from redfaust.brokers.broker import GroupProgress, PartitionSurvey, ServerTrouble, Trouble
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import info, reading, script
from redfaust.brokers.redis.offsets import before, offset_of

AT_ONCE = 250
"""Partitions asked about in one round trip, so that reading its replies stays short."""

_COMMANDS = 3
"""Commands for each partition."""
_ABSENT = "no such key"


class Survey:
    """Looks, and changes nothing. See :class:`~redfaust.brokers.broker.Broker`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._oldest = script(client, "oldest")
        self._blocked = script(client, "blocked_log", "tell_blocked")

    async def of(self, tps: Collection[TP]) -> dict[TP, PartitionSurvey]:
        """Look at partitions, in two round trips for each :data:`AT_ONCE` of them."""
        found: dict[TP, PartitionSurvey] = {}
        for some in _batched(tps, AT_ONCE):
            found |= await self._look(some)
        return found

    async def _look(self, tps: Sequence[TP]) -> dict[TP, PartitionSurvey]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp in tps:
                of_tp = [keys.stream(tp), keys.producers(tp)]
                pipeline.execute_command(*reading(self._blocked, of_tp))
                pipeline.xlen(keys.stream(tp))
                pipeline.xinfo_groups(keys.stream(tp))
            replies = await pipeline.execute(raise_on_error=False)
        found = {}
        for place, tp in enumerate(tps):
            found[tp] = _survey(*replies[place * _COMMANDS : (place + 1) * _COMMANDS])
        return await self._with_ages(found)

    async def _with_ages(self, found: dict[TP, PartitionSurvey]) -> dict[TP, PartitionSurvey]:
        """The same with the ages of what is not finished, where something is not."""
        lagging = [
            (tp, group, progress)
            for tp, survey in found.items()
            for group, progress in survey.groups.items()
            if progress.lag
        ]
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp, group, progress in lagging:
                delivered = before(progress.position)
                pipeline.execute_command(
                    *reading(
                        self._oldest,
                        [keys.stream(tp)],
                        _bytes(group),
                        delivered,
                        progress.claimed,
                    )
                )
            ages = await pipeline.execute(raise_on_error=False)
        for (tp, group, progress), age in zip(lagging, ages, strict=True):
            # It may all be finished by now. An ID that a foreign producer gave may lie ahead.
            known = max(age, 0) / 1000 if isinstance(age, int) else None
            aged = {**found[tp].groups, group: progress._replace(oldest_age=known)}
            found[tp] = found[tp]._replace(groups=aged)
        return found


def _survey(blocked: Any, length: Any, groups: Any) -> PartitionSurvey:
    if isinstance(blocked, Exception):
        raise blocked
    reason = blocked.decode("utf-8", "replace") or None
    if isinstance(length, ResponseError) and str(length).startswith("WRONGTYPE"):
        return PartitionSurvey(0, {}, reason)
    if isinstance(length, Exception):
        raise length
    if isinstance(groups, Exception):
        if _ABSENT not in str(groups):
            raise groups
        groups = ()
    found = {_text(group["name"]): _progress(group, length) for group in groups}
    return PartitionSurvey(length, found, reason)


def _progress(group: Mapping[str, Any], length: int) -> GroupProgress:
    pending = group["pending"]
    # Redis gives no lag where entries were deleted ahead of the group: what is there is the most
    # that it can be.
    lag = length if group["lag"] is None else group["lag"]
    return GroupProgress(offset_of(group["last-delivered-id"]) + 1, lag + pending, pending)


async def troubles_of(server: Redis, name: str) -> list[ServerTrouble]:
    """What one server says is wrong with it."""
    said = await info(server, "memory", "replication", "persistence")
    found = []
    limit, policy = int(said.get("maxmemory", 0)), said.get("maxmemory_policy", "noeviction")
    used = int(said.get("used_memory", 0)) - int(said.get("mem_not_counted_for_evict", 0))
    if limit and str(policy).startswith("allkeys"):
        what = f"{name} has maxmemory-policy {policy}: when it is full it removes any key"
        found.append(ServerTrouble(Trouble.EVICTS, what))
    elif limit and used >= limit:
        what = f"{name} uses {used} bytes, and its maxmemory is {limit}: it takes no event"
        found.append(ServerTrouble(Trouble.FULL, what))
    if said.get("role") == "slave":
        found.append(ServerTrouble(Trouble.READ_ONLY, f"{name} is a replica: it takes no event"))
    return found


def _batched(tps: Iterable[TP], size: int) -> Iterable[list[TP]]:
    rest = iter(tps)
    while some := list(islice(rest, size)):
        yield some


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
