"""Appending once: beside each stream lies a hash of the numbers that lanes have come to.

Mark and stream share a slot and are changed by one script, so they are written, replicated and
lost together: whatever the mark says is true of the stream that it lies beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TypeAlias

from faust.types import TP
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from connectors.errors import BrokerError
from connectors.transports.broker import Numbered
from connectors.transports.redis import keys
from connectors.transports.redis.client import script
from connectors.transports.redis.entry import encode

CALL_BYTES = 1 << 20
"""Bytes after which a call of the script takes no further entry: Redis does nothing else while
it runs, and holds it in memory twice."""

MAX_FIELDS = 7000
"""Fields and values of an entry; Lua hands no more than 8,000 values to a function."""

_Argument: TypeAlias = bytes | int
_Call: TypeAlias = list[_Argument]


class Lanes:
    """The marks of one Redis."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._script = script(client, "append_once").script

    async def append(self, lane: str, logs: Mapping[TP, Sequence[Numbered]]) -> None:
        """See :meth:`~connectors.transports.broker.Broker.append_once`.

        One round trip, unless a stream's entries are larger than ``CALL_BYTES``. Then its next
        call waits for the success of the one before: a mark must not pass what has failed.
        """
        calls = [list(_calls(entries)) for entries in logs.values()]
        for turn in zip_longest(*calls):
            async with self._client.pipeline(transaction=False) as pipeline:
                for tp, call in zip(logs, turn, strict=True):
                    if call is not None:
                        # The source rather than its hash, which Redis may have forgotten.
                        pipeline.execute_command(
                            "EVAL", self._script, 2, keys.stream(tp), keys.lanes(tp), lane, *call
                        )
                await _results(pipeline)

    async def marks(self, lane: str, tps: Iterable[TP]) -> dict[TP, int]:
        """The lane's mark in each log where it has one."""
        tps = list(tps)
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp in tps:
                pipeline.hget(keys.lanes(tp), lane)
            marks = await _results(pipeline)
        return {tp: int(mark) for tp, mark in zip(tps, marks, strict=True) if mark is not None}


def _calls(entries: Sequence[Numbered]) -> Iterator[_Call]:
    call: _Call = []
    size = 0
    for number, entry in entries:
        fields = encode(entry)
        if len(fields) > MAX_FIELDS:
            raise BrokerError(
                f"entry {number} for {entry.topic} has {len(entry.headers)} headers, "
                f"more than a script can append: send fewer than {MAX_FIELDS // 2 - 2}"
            )
        call += (number, len(fields), *fields)
        size += sum(len(field) for field in fields if isinstance(field, bytes))
        if size >= CALL_BYTES:
            yield call
            call, size = [], 0
    if call:
        yield call


async def _results(pipeline: Pipeline) -> list[bytes | None]:
    # Redis-py's own error of a pipeline shows the command, and so the event.
    replies: list[bytes | None] = await pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
