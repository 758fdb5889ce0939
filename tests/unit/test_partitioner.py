from __future__ import annotations

import random

from aiokafka.partitioner import murmur2

from redfaust.brokers.partitioner import partition_of, partition_of_sequenced


def test_keys_of_any_length_lie_where_kafkas_own_client_puts_them() -> None:
    draw = random.Random(1)
    for length in range(130):
        key = draw.randbytes(length)
        for partitions in (1, 7, 64):
            expected = (murmur2(key) & 0x7FFFFFFF) % partitions
            assert partition_of(key, partitions) == expected
            assert partition_of_sequenced(key, 5, partitions) == expected


def test_without_a_key_a_number_finds_its_partition_again() -> None:
    assert [partition_of_sequenced(None, number, 3) for number in range(4)] == [0, 1, 2, 0]
    assert {partition_of(None, 3) for _ in range(1000)} == {0, 1, 2}
