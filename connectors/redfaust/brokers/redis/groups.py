"""Where consumer groups stand in streams, asked of all partitions at a time.

Scripts return IDs and numbers alone: ``XINFO STREAM`` returns whole entries, however large.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from faust.types import TP
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from redfaust.brokers.broker import Advance, PartitionStatus
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import WRONG_TYPE, pipelined, reading, script
from redfaust.brokers.redis.offsets import BEGINNING, offset_of, stream_id
from redfaust.brokers.redis.stored import shown_name
from redfaust.printable import printable

NOTHING = "0-0"
"""The ID up to which a group has finished a log where nothing is known to be finished."""

_NO_GROUPS = ("no such key", WRONG_TYPE, "The XGROUP subcommand requires the key to exist")
"""What Redis says of a stream that is not there."""

logger = logging.getLogger(__name__)


class Groups:
    """Those of one Redis. See :class:`~redfaust.brokers.broker.Broker`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._join = script(client, "streams", "join")
        self._status = script(client, "streams", "status")
        self._bounds = script(client, "streams", "bounds")
        self._commit = script(client, "streams", "commit").script

    async def join(
        self,
        groups: Iterable[str | bytes],
        tps: Iterable[TP],
        *,
        from_start: bool,
        finished: Mapping[TP, int] = {},
    ) -> None:
        """Give groups a place in partitions. What is no stream has none: it is left out, and said
        in the log.

        A group without a place gets that of ``finished`` where the log reaches so far.
        """
        where = "start" if from_start else "end"
        tps = list(tps)
        for group in groups:
            calls: list[list[str | bytes]] = [
                [group, where, stream_id(finished[tp] - 1) if tp in finished else NOTHING]
                for tp in tps
            ]
            for tp, reply in zip(tps, await self._each(self._join, tps, calls), strict=True):
                if isinstance(reply, Exception):
                    if not str(reply).startswith(WRONG_TYPE):
                        raise reply
                    logger.error(
                        "Partition %s of %s waits: the key %s is no stream. Rename or delete it",
                        tp.partition,
                        printable(tp.topic),
                        printable(keys.stream(tp)),
                    )

    async def leave(self, group: str, tps: Iterable[TP]) -> None:
        """Forget a group, by its name as it is shown."""
        named = [
            (tp, place["name"])
            for tp, places in (await self.places(tps)).items()
            for place in places
            if shown_name(place["name"]) == group
        ]
        commands = [("XGROUP", "DESTROY", keys.stream(tp), name) for tp, name in named]
        for reply in await pipelined(self._client, commands):
            if isinstance(reply, Exception) and not _says_no_groups(reply):
                raise reply

    async def places(self, tps: Iterable[TP]) -> dict[TP, list[dict[str, Any]]]:
        """What Redis tells of the groups of each partition that has some."""
        tps = list(tps)
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp in tps:
                pipeline.xinfo_groups(keys.stream(tp))
            replies = await pipeline.execute(raise_on_error=False)
        found: dict[TP, list[dict[str, Any]]] = {}
        for tp, groups in zip(tps, replies, strict=True):
            if isinstance(groups, Exception):
                if _says_no_groups(groups):
                    continue
                raise groups
            if groups:
                found[tp] = groups
        return found

    async def positions(self, group: str, tps: Iterable[TP]) -> dict[TP, int]:
        """Where the group stands, in the partitions where it has a place."""
        statuses = await self.statuses(group, tps)
        return {
            tp: status.position for tp, status in statuses.items() if status.position is not None
        }

    async def statuses(self, group: str, tps: Iterable[TP]) -> dict[TP, PartitionStatus]:
        """The partitions as the group sees them."""
        tps = list(tps)
        replies = await pipelined(
            self._client, [reading(self._status, [keys.stream(tp)], group) for tp in tps]
        )
        return {tp: _status(*reply) for tp, reply in zip(tps, map(_checked, replies), strict=True)}

    async def bounds(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        """The bounds of each log; what is no stream has none."""
        tps = list(tps)
        found = {}
        replies = await pipelined(
            self._client, [reading(self._bounds, [keys.stream(tp)]) for tp in tps]
        )
        for tp, reply in zip(tps, replies, strict=True):
            if isinstance(reply, Exception) and str(reply).startswith(WRONG_TYPE):
                continue
            match _checked(reply):
                case [first, last]:
                    end = offset_of(last) + 1
                    found[tp] = (offset_of(first) if first else end), end
                case _:
                    found[tp] = BEGINNING, BEGINNING
        return found

    async def floors(self, tps: Iterable[TP], *, of: str | None = None) -> dict[TP, int]:
        """The lowest place of any group in each partition, or the place of one."""
        floors: dict[TP, int] = {}
        shared: list[tuple[TP, bytes]] = []
        for tp, places in (await self.places(tps)).items():
            groups = [place for place in places if of is None or place["name"] == of.encode()]
            if groups:
                floors[tp] = min(offset_of(group["last-delivered-id"]) for group in groups) + 1
            shared += [(tp, group["name"]) for group in groups if group["pending"]]
        for tp, oldest in (await self._oldest_claimed(shared)).items():
            floors[tp] = min(floors[tp], oldest)
        return floors

    async def _oldest_claimed(self, groups: Sequence[tuple[TP, bytes]]) -> Mapping[TP, int]:
        """The oldest entries that consumers of these groups have in hand."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp, group in groups:
                pipeline.xpending(keys.stream(tp), group)
            replies = await pipeline.execute()
        oldest: dict[TP, int] = {}
        for (tp, _), pending in zip(groups, replies, strict=True):
            if pending["min"] is not None:  # it may all be settled by now
                offset = offset_of(pending["min"])
                oldest[tp] = min(offset, oldest.get(tp, offset))
        return oldest

    async def commit(self, group: str, advances: Mapping[TP, Advance]) -> None:
        """Move the group on."""
        replies = await pipelined(
            self._client,
            [
                # The source: by its hash redis-py would ask first whether it is known.
                ("EVAL", self._commit, 1, keys.stream(tp), group, stream_id(position - 1), finished)
                for tp, (position, finished) in advances.items()
            ],
        )
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        for error in sorted(errors, key=lambda error: "SETBACK " not in str(error)):
            raise error

    async def _each(
        self, script: AsyncScript, tps: Sequence[TP], arguments: Sequence[Sequence[str | bytes]]
    ) -> list[Any]:
        """What a script returns for each partition, an error in its place."""
        if not tps:
            return []
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp, of_tp in zip(tps, arguments, strict=True):
                await script(keys=[keys.stream(tp)], args=of_tp, client=pipeline)
            return await pipeline.execute(raise_on_error=False)


def _status(
    length: int, delivered: bytes | None = None, claimed: int = 0, lag: int = 0
) -> PartitionStatus:
    if delivered is None:
        return PartitionStatus(length, 0, None)
    # Where Redis knows no lag, what is there is the most that it can be.
    unread = length if lag < 0 else lag
    return PartitionStatus(length, unread + claimed, offset_of(delivered) + 1, claimed)


def _checked(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply


def _says_no_groups(error: Exception) -> bool:
    return str(error).startswith(_NO_GROUPS)
