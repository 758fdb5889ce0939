"""Entries of Kafka, as whoever wrote them may have left them."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from redfaust.brokers.broker import Outgoing, Record, SequencedEntry
from redfaust.brokers.kafka.entry import SOURCE, as_record, log_of, with_source
from redfaust.brokers.kafka.topics import name_fault
from redfaust.brokers.outgoing import EARLIEST, LATEST
from redfaust.brokers.sequences import Signer

SIGNER = Signer([b"secret"])
FIRST = TP("orders", 0)


class Stored(NamedTuple):
    """A record as aiokafka gives it."""

    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = 1500
    topic: str = "orders"
    partition: int = 0
    offset: int = 7
    key: bytes | None = b"k"
    value: bytes | None = b"x"


def read(stored: Stored) -> Record:
    return as_record(stored, SIGNER)


def sent(producer_id: str, number: int, tp: TP = FIRST) -> tuple[tuple[str, bytes | None], ...]:
    entry = Outgoing("orders", b"x", b"k", (("a", b"1"),))
    return with_source(log_of(SIGNER, *tp), producer_id, SequencedEntry(number, entry)).headers


def test_an_entry_that_was_sent_once_has_its_source_and_its_headers() -> None:
    record = read(Stored(sent("producer_id", 5)))
    assert (record.source, record.headers) == (("producer_id", 5), (("a", b"1"),))


@pytest.mark.parametrize(
    "forged",
    [
        *(
            None,
            b"",
            b"producer:5",
            b"producer:99999999999",
            b"x:-5",
            b"\xff",
            b"producer:5:0000000000000000",
        ),
        log_of(SIGNER, "orders", 1).sign(b"producer_id", 5),
        log_of(Signer([b"another"]), *FIRST).sign(b"producer_id", 5),
    ],
)
def test_a_source_that_redfaust_has_not_signed_is_none(forged: bytes | None) -> None:
    assert read(Stored(((SOURCE, forged), ("a", b"1"))))[2:] == (b"k", b"x", (("a", b"1"),), None)
    twice = (SOURCE, forged), *sent("producer_id", 5), (SOURCE, forged)
    assert read(Stored(twice)).source == ("producer_id", 5)


def test_a_header_without_a_value_is_empty_and_one_with_nul_can_be_stored() -> None:
    record = read(Stored((("a", None), ("\0", b"1"), ("", b"2"), ("a", b"3"))))
    assert record.headers == (("a", b""), ("\ufffd", b"1"), ("", b"2"), ("a", b"3"))


@settings(deadline=None)
@given(
    timestamp=st.integers(-(2**63), 2**63 - 1),
    headers=st.lists(st.tuples(st.text() | st.just(SOURCE), st.none() | st.binary())),
)
def test_whatever_an_entry_holds_it_is_a_valid_record(
    timestamp: int, headers: list[tuple[str, bytes | None]]
) -> None:
    record = read(Stored(tuple(headers), timestamp))
    assert EARLIEST <= record.timestamp <= LATEST
    assert record.source is None
    assert all(name.encode().count(b"\0") == 0 for name, _ in record.headers)


@pytest.mark.parametrize("name", ["a b", "ä", ".", "..", "a/b", "a\0", "", "a" * 250])
def test_a_name_that_kafka_has_not_is_told(name: str) -> None:
    assert name_fault(name) is not None


@pytest.mark.parametrize("name", ["orders", "a.b_c-D9", "...", "a" * 249])
def test_a_name_that_kafka_has_is_none_the_worse(name: Any) -> None:
    assert name_fault(name) is None
