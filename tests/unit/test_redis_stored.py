"""Whatever lies at redfaust's keys in Redis, it is read as what it means or said to be wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redfaust.brokers import assignor, heartbeats
from redfaust.brokers.assignor import GroupAssignment, Owned
from redfaust.brokers.broker import MAX_PARTITIONS, Heartbeat
from redfaust.brokers.redis import stored
from redfaust.brokers.redis.stored import Malformed

T = TypeVar("T")

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
names = st.text(st.characters(codec="utf-8"), max_size=5)
RETENTION = ["age", "size", "entries", "compacted", "deletions"]
MEMBERS = ["counts", "info", "members", "owners", "drained"]
like_ours = st.fixed_dictionaries({}, optional=dict.fromkeys([*RETENTION, *MEMBERS], json))


def read(reading: Callable[[], T]) -> T | None:
    """What is read; ``None`` if it is said to be wrong, in printable characters."""
    try:
        return reading()
    except Malformed as error:
        reason = str(error)
    assert reason.isprintable()
    return None


def as_bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits
        return repr(value).encode("utf-8", "replace")


@given(st.binary(max_size=300))
def test_a_name_is_one_or_said_to_be_none(name: bytes) -> None:
    found = read(lambda: stored.topic_name(name))
    assert found is None or found.encode() == name
    assert stored.shown(name).isprintable()


@given(st.binary(max_size=12) | st.integers().map(lambda n: b"%d" % n))
def test_a_number_of_partitions_is_one_or_said_to_be_none(value: bytes) -> None:
    found = read(lambda: stored.catalog_entry("topic", value))
    assert found is None or 1 <= found.partitions <= MAX_PARTITIONS


@given(st.binary(max_size=30) | (json | like_ours).map(as_bytes))
def test_everything_else_is_read_or_said_to_be_wrong(value: bytes) -> None:
    read(lambda: stored.retention("topic", value))
    read(lambda: stored.assignment_entry("group", (b"1-1", [b"assignment", value])))
    read(lambda: stored.heartbeat_entry(b"member", b"1 2 " + value, 3))
    read(lambda: stored.heartbeat_entry(b"member", value, 3))


owned = st.builds(Owned, names, names, st.floats(0, 1e10))
assignments = st.builds(
    GroupAssignment,
    st.lists(names, unique=True, max_size=4).map(tuple),
    st.dictionaries(st.integers(0, MAX_PARTITIONS - 1), owned, max_size=4),
    st.frozensets(names, max_size=3),
)


@given(assignments)
def test_a_register_comes_back_as_it_was(assignment: GroupAssignment) -> None:
    assert (
        assignor.from_json(orjson.loads(orjson.dumps(assignor.as_json(assignment)))) == assignment
    )


@given(st.frozensets(st.integers(1, MAX_PARTITIONS)), st.dictionaries(names, names))
def test_a_beat_comes_back_as_it_was(counts: frozenset[int], info: dict[str, str]) -> None:
    said = orjson.loads(orjson.dumps(heartbeats.as_json(Heartbeat(7, counts, info))))
    assert heartbeats.from_json(7, said, 1.5) == Heartbeat(7, counts, info, 1.5)


@pytest.mark.parametrize("number", [0, -1])
def test_a_beat_is_numbered_from_one(number: int) -> None:
    with pytest.raises(ValueError, match="below 1"):
        heartbeats.from_json(number, {"counts": [], "info": {}}, 0.0)
