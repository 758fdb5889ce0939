"""Appending: one call of a script for each stream, all in one round trip.

A command for each entry costs several times as much, most of it in the client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.broker import Appended, Outgoing
from redfaust.brokers.partitioner import partition_of
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import script
from redfaust.brokers.redis.entry import encode, refusal_of
from redfaust.brokers.redis.offsets import SEQUENCE_BITS
from redfaust.brokers.redis.producer_states import CALL_BYTES
from redfaust.errors import BrokerError

Outcome: TypeAlias = Appended | BrokerError
"""What became of an entry."""

_Lot: TypeAlias = list[tuple[int, Outgoing]]
"""What goes to one stream, each with its place among all that is appended."""


class Appender:
    """Appends to the streams of one Redis."""

    def __init__(self, client: Redis, *, outcome_of: Callable[[Exception], BrokerError]) -> None:
        """``outcome_of`` says what became of an entry, from Redis's error, or raises that nothing
        is known of it."""
        self._client = client
        self._outcome_of = outcome_of
        self._script = script(client, "append").script

    async def append(
        self, entries: Sequence[Outgoing], partitions: Mapping[str, int]
    ) -> list[Outcome]:
        """Append in order per partition; what became of each entry."""
        outcomes: dict[int, Outcome] = {}
        partition_batches: dict[tuple[str, int], _Lot] = {}
        for place, entry in enumerate(entries):
            if refusal := refusal_of(entry, partitions):
                outcomes[place] = refusal
                continue
            topic, _, key, _, number, _ = entry
            if number is None:
                number = partition_of(key, partitions[topic])
            partition_batches.setdefault((topic, number), []).append((place, entry))
        calls = [
            (TP(*at), *call)
            for at, partition_batch in partition_batches.items()
            for call in _calls(partition_batch)
        ]
        async with self._client.pipeline(transaction=False) as pipeline:
            for tp, _, arguments in calls:
                # The source rather than its hash, which Redis may have forgotten.
                pipeline.execute_command("EVAL", self._script, 1, keys.stream(tp), *arguments)
            # Redis-py's own error of a pipeline shows the command, and so the event.
            replies = await pipeline.execute(raise_on_error=False)
        for (tp, places, _), reply in zip(calls, replies, strict=True):
            each = [reply] * len(places) if isinstance(reply, Exception) else reply
            outcomes.update(zip(places, self._outcomes(tp, each), strict=True))
        return [outcomes[place] for place in range(len(entries))]

    def _outcomes(self, tp: TP, replies: Sequence[bytes | Exception]) -> Iterator[Outcome]:
        last, offset, time = b"", 0, 0.0
        for reply in replies:
            if isinstance(reply, Exception):
                yield self._outcome_of(reply)
                continue
            milliseconds, _, sequence = reply.partition(b"-")
            if milliseconds != last:  # those of a batch have one in common
                last, time = milliseconds, int(milliseconds) / 1000
                offset = int(milliseconds) << SEQUENCE_BITS
            yield Appended(tp, offset | int(sequence), time)


def _calls(partition_batch: _Lot) -> Iterator[tuple[list[int], list[Any]]]:
    """The places of the entries that each call of the script has, and what is behind the key."""
    places: list[int] = []
    call: list[Any] = []
    size = 0
    for place, entry in partition_batch:
        fields = encode(entry)
        places.append(place)
        call += (len(fields), *fields)
        size += sum(map(len, fields))
        if size >= CALL_BYTES:
            yield places, call
            places, call, size = [], [], 0
    if places:
        yield places, call
