"""What an entry must be like so that any broker can take it.

An entry that fails here is refused before anything of it is appended. Otherwise it would lie where
nobody reads, or its time could not be stored or shown.
"""

from __future__ import annotations

from connectors.brokers.broker import Outgoing
from connectors.errors import BrokerError

EARLIEST = 0.0
"""Seconds since the epoch: the oldest timestamp, since Kafka knows none before 1970."""

LATEST = 253_402_300_799.0
"""Seconds since the epoch: the last second of the year 9999, the last that Python's dates have."""


def timestamp_fault(timestamp: float) -> str | None:
    """Say what is wrong with a timestamp in seconds, and what to do; ``None`` if nothing is."""
    if EARLIEST <= timestamp <= LATEST:  # never true of NaN
        return None
    return f"timestamp {timestamp} is not from 1970 to 9999: give seconds since 1970, or none"


def partition_fault(topic: str, partition: int, partitions: int) -> str | None:
    """Say what is wrong with a partition's number, and what to do; ``None`` if nothing is."""
    if 0 <= partition < partitions:
        return None
    return (
        f"topic {topic} has no partition {partition}, only 0 to {partitions - 1}: "
        "leave it to the key, or name one that there is"
    )


def refusal_of(entry: Outgoing, partitions: int) -> BrokerError | None:
    """Why an entry for a topic of so many partitions is refused; ``None`` if it is not.

    The topic's name is not looked at: that is done once for all entries of a topic.
    """
    if entry.partition is not None and (
        fault := partition_fault(entry.topic, entry.partition, partitions)
    ):
        return BrokerError(fault)
    if entry.timestamp is not None and (fault := timestamp_fault(entry.timestamp)):
        return BrokerError(f"an entry for {entry.topic}: {fault}")
    return None
