"""What lanes send, by the log that it goes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from faust.types import TP

from redfaust.brokers.broker import LaneBatch, Numbered, Outgoing, Refused
from redfaust.brokers.partitioner import partition_of_numbered
from redfaust.brokers.sequences import END_OF_NUMBERS, check_lane
from redfaust.errors import BrokerError


class PartitionBatch(NamedTuple):
    """What a lane sends to one log."""

    lane: str
    tp: TP
    after: int
    """The lane's mark there, as the sender knows it; 0 if any will do."""
    entries: Sequence[Numbered]


def divide(
    batches: Iterable[LaneBatch],
    partitions: Mapping[str, int],
    refusal_of: Callable[[Outgoing, Mapping[str, int]], BrokerError | None],
) -> tuple[list[PartitionBatch], list[Refused]]:
    """Divide batches by logs, and take out what is refused.

    Of a lane nothing goes to a log that lies behind an entry that is refused there: it would make
    that a repeat. ``partitions`` are those of all topics that have a proper name.

    Raises BrokerError for a lane without a proper name.
    """
    refused: list[Refused] = []
    partition_batches: dict[tuple[str, TP], list[Numbered]] = {}
    afters: dict[str, Mapping[TP, int]] = {}
    for lane, entries, after in batches:
        check_lane(lane)
        afters[lane] = after
        ended: set[TP] = set()
        for numbered in entries:
            number, entry = numbered
            tp = _target(numbered, partitions)
            refusal = refusal_of(entry, partitions)
            if refusal is None and not 1 <= number < END_OF_NUMBERS:
                refusal = BrokerError(
                    f"an entry has the number {number}, which is not from 1 to {END_OF_NUMBERS - 1}"
                )
            if refusal is not None:
                refused.append(Refused(lane, number, refusal))
                ended.add(tp)
            elif tp not in ended:
                partition_batches.setdefault((lane, tp), []).append(numbered)
    return [
        PartitionBatch(lane, tp, afters[lane].get(tp, 0), entries)
        for (lane, tp), entries in partition_batches.items()
    ], refused


def _target(numbered: Numbered, partitions: Mapping[str, int]) -> TP:
    number, entry = numbered
    if entry.partition is not None:
        return TP(entry.topic, entry.partition)
    count = partitions.get(entry.topic, 1)  # which has no proper name, and is refused
    return TP(entry.topic, partition_of_numbered(entry.key, number, count))
