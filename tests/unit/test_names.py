"""What an entry may say: the name of its topic, its partition, its time."""

from __future__ import annotations

import math

import pytest

from redfaust.brokers.broker import Outgoing
from redfaust.brokers.names import LONGEST_TOPIC, topic_fault
from redfaust.brokers.outgoing import LATEST, refusal_of, timestamp_fault


@pytest.mark.parametrize(
    "name", ["orders", "a.b-c_d", "Bestellungen für Köln", "a" * LONGEST_TOPIC, "redfaust:x", "{a}"]
)
def test_a_topic_may_have_any_name_that_can_be_printed(name: str) -> None:
    assert topic_fault(name) is None


@pytest.mark.parametrize(
    "name", ["", "a" * (LONGEST_TOPIC + 1), "a\0", "a\n", "\ud800", "a\u202eb", "\u2028", "}a"]
)
def test_a_topic_without_a_proper_name_is_told_so_in_print(name: str) -> None:
    fault = topic_fault(name)
    assert fault is not None
    assert fault.isprintable()


@pytest.mark.parametrize("timestamp", [0.0, 1.5, LATEST])
def test_a_time_from_1970_to_9999_is_one(timestamp: float) -> None:
    assert timestamp_fault(timestamp) is None


@pytest.mark.parametrize("timestamp", [math.nan, math.inf, -math.inf, -0.001, 1e308, LATEST + 1])
def test_another_time_is_none(timestamp: float) -> None:
    assert "1970 to 9999" in (timestamp_fault(timestamp) or "")


@pytest.mark.parametrize("partition", [-1, 2, 2**31, 2**64])
def test_an_entry_for_a_partition_that_there_is_not_is_refused(partition: int) -> None:
    refusal = refusal_of(Outgoing("orders", b"", partition=partition), {"orders": 2})
    assert f"orders has no partition {partition}" in str(refusal)
    assert refusal_of(Outgoing("orders", b"", partition=1), {"orders": 2}) is None


def test_an_entry_is_refused_for_its_topic_its_partition_and_its_time() -> None:
    partitions = {"orders": 2}
    assert refusal_of(Outgoing("orders", b"", b"", (), 1, 1.0), partitions) is None
    for wrong, said in (
        (Outgoing("a\0", b""), "cannot be printed"),
        (Outgoing("orders", b"", partition=2), "no partition 2"),
        (Outgoing("orders", b"", partition=1, timestamp=math.nan), "timestamp nan"),
    ):
        assert said in str(refusal_of(wrong, partitions))
