"""What an entry must be like so that any broker can take it.

An entry that fails here is refused before anything of it is appended. Otherwise it would lie where
nobody reads, or its time could not be stored or shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redfaust.brokers.broker import Outgoing
from redfaust.brokers.names import topic_fault
from redfaust.errors import BrokerError

EARLIEST = 0.0
"""Seconds since the epoch: the oldest timestamp, since Kafka knows none before 1970."""

LATEST = 253_402_300_799.0
"""Seconds since the epoch: the last second of the year 9999, the last that Python's dates have."""


def timestamp_fault(timestamp: float) -> str | None:
    """Say what is wrong with a timestamp in seconds, and what to do; ``None`` if nothing is."""
    if EARLIEST <= timestamp <= LATEST:  # never true of NaN
        return None
    return f"timestamp {timestamp} is not from 1970 to 9999: write seconds since 1970, or None"


def partition_fault(topic: str, partition: int, partitions: int) -> str | None:
    """Say what is wrong with a partition's number, and what to do; ``None`` if nothing is."""
    if 0 <= partition < partitions:
        return None
    return (
        f"topic {topic} has no partition {partition}, only 0 to {partitions - 1}: "
        "leave it to the key, or name one that there is"
    )


def refusal_of(entry: Outgoing, partitions: Mapping[str, int]) -> BrokerError | None:
    """Why no broker takes an entry; ``None`` if nothing is wrong with it.

    ``partitions`` are those of all topics that have a proper name.
    """
    topic, _, _, _, partition, timestamp = entry
    if topic not in partitions:
        return BrokerError(topic_fault(topic) or f"there is no topic {topic}")
    fault = None
    if partition is not None:
        fault = partition_fault(topic, partition, partitions[topic])
    if fault is None and timestamp is not None and (bad := timestamp_fault(timestamp)):
        fault = f"an entry for {topic} has a wrong time: {bad}"
    return None if fault is None else BrokerError(fault)


def beyond(entries: Iterable[Outgoing], partitions: Mapping[str, int]) -> set[str]:
    """The topics of which entries name a partition that is not known. It may be new."""
    return {
        entry.topic
        for entry in entries
        if entry.partition is not None
        and entry.partition >= partitions.get(entry.topic, entry.partition + 1)
    }
