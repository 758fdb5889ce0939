"""Appending once: beside each stream lies a hash of the numbers that lanes have come to.

Mark and stream share a slot and are changed by one script, so they are written, replicated and
lost together: whatever the mark says is true of the stream that it lies beside.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, cast

from faust.types import TP
from redis.asyncio import Redis

from connectors.brokers.broker import (
    EntriesRefused,
    LogSetBack,
    Numbered,
    Place,
    Refused,
)
from connectors.brokers.redis import keys
from connectors.brokers.redis.client import script
from connectors.brokers.redis.entry import encode_numbered, refusal_of
from connectors.brokers.redis.offsets import offset_of
from connectors.errors import BrokerError

CALL_BYTES = 1 << 20
"""Bytes after which a call of the script takes no further entry: Redis does nothing else while
it runs, and holds it in memory twice."""

_Call: TypeAlias = list[bytes | int]
_Reply: TypeAlias = list[bytes]


class Lot(NamedTuple):
    """What a lane sends to one log."""

    lane: str
    tp: TP
    after: int
    entries: Sequence[Numbered]


class Lanes:
    """The marks of one Redis."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._script = script(client, "append_once").script

    async def append(self, lots: Iterable[Lot]) -> dict[str, dict[TP, Place]]:
        """See :meth:`~connectors.brokers.broker.Broker.append_once`.

        One round trip, unless a stream's entries are larger than ``CALL_BYTES``. Then its next
        call waits for the success of the one before: a mark must not pass what has failed.
        """
        lots = list(lots)
        if refused := [
            Refused(lot.lane, number, refusal)
            for lot in lots
            for number, entry in lot.entries
            if entry.headers and (refusal := refusal_of(entry))
        ]:
            raise EntriesRefused(refused)
        places: dict[str, dict[TP, Place]] = {}
        set_back: set[str] = set()
        waiting = [(lot, _calls(lot)) for lot in lots]
        while waiting:
            turn = [(lot, calls, call) for lot, calls in waiting if (call := next(calls, None))]
            replies = await self._evaluate([(lot, call) for lot, _, call in turn])
            waiting = []
            for (lot, calls, _), reply in zip(turn, replies, strict=True):
                match reply:
                    case [b"SETBACK"]:
                        set_back.add(lot.lane)
                    case [b"REFUSED", number, reason]:
                        refused += _refusals(lot, int(number), reason.decode("utf-8", "replace"))
                    case [_, mark, last_id]:
                        place = Place(int(mark), offset_of(last_id) + 1)
                        places.setdefault(lot.lane, {})[lot.tp] = place
                        waiting.append((lot, calls))
        if set_back:
            raise LogSetBack(set_back)
        if refused:
            raise EntriesRefused(refused)
        return places

    async def _evaluate(self, calls: Sequence[tuple[Lot, _Call]]) -> list[_Reply]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for (lane, tp, _, _), call in calls:
                # The source rather than its hash, which Redis may have forgotten.
                pipeline.execute_command(
                    "EVAL", self._script, 2, keys.stream(tp), keys.lanes(tp), lane, *call
                )
            # Redis-py's own error of a pipeline shows the command, and so the event.
            replies: list[_Reply | Exception] = await pipeline.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return cast("list[_Reply]", replies)

    async def marks(self, lanes: Collection[str], tps: Iterable[TP]) -> dict[str, dict[TP, int]]:
        """The marks of the lanes in each log where they have one.

        What somebody else has put in their place is none: one log must not stop all lanes.
        """
        tps, lanes = list(tps), list(lanes)
        found: dict[str, dict[TP, int]] = {lane: {} for lane in lanes}
        if not found:
            return found
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp in tps:
                pipeline.hmget(keys.lanes(tp), lanes)
            replies = await pipeline.execute(raise_on_error=False)
        for tp, marks in zip(tps, replies, strict=True):
            if isinstance(marks, Exception):
                if str(marks).startswith("WRONGTYPE"):
                    continue
                raise marks
            for lane, mark in zip(lanes, marks, strict=True):
                if mark is not None and mark.isdigit():
                    found[lane][tp] = int(mark)
        return found

    async def blocked(self, tps: Collection[TP]) -> dict[TP, str]:
        """The logs of which a key has another type, with what to do."""
        places = [(tp, key, kind) for tp in tps for key, kind in _kinds(tp)]
        async with self._client.pipeline(transaction=False) as pipeline:
            for _, key, _ in places:
                pipeline.type(key)
            found = await pipeline.execute()
        return {
            tp: f"{key} is a {there.decode()} and should be a {kind}: delete or rename that key"
            for (tp, key, kind), there in zip(places, found, strict=True)
            if there not in {b"none", kind.encode()}
        }


def _kinds(tp: TP) -> tuple[tuple[str, str], ...]:
    """The keys of a log, with the types that they have."""
    return (keys.stream(tp), "stream"), (keys.lanes(tp), "hash")


def _calls(lot: Lot) -> Iterator[_Call]:
    """What is behind the lane in each call of the script."""
    call: _Call = [lot.after]
    size = 0
    lane = lot.lane.encode()
    for number, entry in lot.entries:
        fields = encode_numbered(lane, number, entry)
        call += (number, len(fields), *fields)
        size += sum(map(len, fields))
        if size >= CALL_BYTES:
            yield call
            call, size = [number], 0
    if len(call) > 1:
        yield call


def _refusals(lot: Lot, number: int, reason: str) -> list[Refused]:
    error = BrokerError(f"Redis refused an entry for {lot.tp.topic}: {reason}")
    numbers = [number] if number else [each.number for each in lot.entries]
    return [Refused(lot.lane, each, error) for each in numbers]
