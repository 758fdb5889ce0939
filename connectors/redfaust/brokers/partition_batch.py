"""What producers send, by the log that it goes to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from faust.types import TP

from redfaust.brokers.broker import Outgoing, ProducerBatch, Refused, SequencedEntry
from redfaust.brokers.partitioner import partition_of_sequenced
from redfaust.brokers.sequences import END_OF_NUMBERS, check_producer_id
from redfaust.errors import BrokerError


class PartitionBatch(NamedTuple):
    """What a producer sends to one log."""

    producer_id: str
    tp: TP
    after: int
    """The producer's last sequence there, as the sender knows it; 0 if any will do."""
    entries: Sequence[SequencedEntry]


def divide(
    batches: Iterable[ProducerBatch],
    partitions: Mapping[str, int],
    refusal_of: Callable[[Outgoing, Mapping[str, int]], BrokerError | None],
) -> tuple[list[PartitionBatch], list[Refused]]:
    """Divide batches by logs, and take out what is refused.

    Of a producer nothing goes to a log that lies behind an entry that is refused there: it would
    make that a repeat. ``partitions`` are those of all topics that have a proper name.

    Raises BrokerError for a producer without a proper name.
    """
    refused: list[Refused] = []
    partition_batches: dict[tuple[str, TP], list[SequencedEntry]] = {}
    afters: dict[str, Mapping[TP, int]] = {}
    for producer_id, entries, after in batches:
        check_producer_id(producer_id)
        afters[producer_id] = after
        ended: set[TP] = set()
        for sequenced in entries:
            number, entry = sequenced
            tp = _target(sequenced, partitions)
            refusal = refusal_of(entry, partitions)
            if refusal is None and not 1 <= number < END_OF_NUMBERS:
                refusal = BrokerError(
                    f"an entry has the number {number}, which is not from 1 to {END_OF_NUMBERS - 1}"
                )
            if refusal is not None:
                refused.append(Refused(producer_id, number, refusal))
                ended.add(tp)
            elif tp not in ended:
                partition_batches.setdefault((producer_id, tp), []).append(sequenced)
    return [
        PartitionBatch(producer_id, tp, afters[producer_id].get(tp, 0), entries)
        for (producer_id, tp), entries in partition_batches.items()
    ], refused


def _target(sequenced: SequencedEntry, partitions: Mapping[str, int]) -> TP:
    number, entry = sequenced
    if entry.partition is not None:
        return TP(entry.topic, entry.partition)
    count = partitions.get(entry.topic, 1)  # which has no proper name, and is refused
    return TP(entry.topic, partition_of_sequenced(entry.key, number, count))
