"""Which partition a key belongs to.

Kafka's own hash (murmur2, as in ``org.apache.kafka.common.utils.Utils``), so that a topic that
moves to Kafka keeps its placement, and producers in other languages agree.
"""

from __future__ import annotations

import random

from aiokafka.partitioner import murmur2

_POSITIVE = 0x7FFFFFFF


def partition_of(key: bytes | None, partitions: int) -> int:
    """The partition of a key; without a key, any."""
    if key is None:
        return random.randrange(partitions)  # noqa: S311 - spreads load, hides nothing
    return int(murmur2(key) & _POSITIVE) % partitions


def partition_of_numbered(key: bytes | None, number: int, partitions: int) -> int:
    """The partition of a key; without a key, one that a repeat of the number finds again."""
    return number % partitions if key is None else partition_of(key, partitions)
