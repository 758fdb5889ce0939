"""Entries and IDs of Redis Streams, there and back."""

from __future__ import annotations

import orjson
import pytest

from connectors.brokers.broker import Outgoing, Record
from connectors.brokers.redis.entry import decode, encode, encode_numbered
from connectors.brokers.redis.offsets import offset_of, seconds_of, stream_id


def read(entry_id: bytes, fields: list[bytes]) -> Record:
    (record,) = decode([(entry_id, fields)])
    return record


LARGEST = b"18446744073709551615-18446744073709551615"


@pytest.mark.parametrize(
    "entry_id", [b"0-1", b"1795447978783-0", b"5-18446744073709551615", LARGEST]
)
def test_an_id_survives_as_an_offset(entry_id: bytes) -> None:
    assert stream_id(offset_of(entry_id)).encode() == entry_id


def test_offsets_sort_as_redis_sorts_ids() -> None:
    ids = [b"1-0", b"1-1", b"1-18446744073709551615", b"2-0", b"10-0"]
    offsets = [offset_of(entry_id) for entry_id in ids]
    assert offsets == sorted(offsets)


def test_the_time_is_that_of_the_id_unless_one_was_given() -> None:
    now = read(b"1795447978783-5", [b"_v", b"x"])
    assert now.timestamp == 1795447978.783 == seconds_of(now.offset)
    assert read(b"1795447978783-5", [b"_v", b"x", b"_t", b"1500"]).timestamp == 1.5


def test_an_entry_survives() -> None:
    entry = Outgoing("t", b"value", b"key", (("h", b"1"), ("h", b"2")), 0, 12.5)
    record = read(b"1-1", encode(entry))
    assert (record.value, record.key, record.headers) == (b"value", b"key", entry.headers)
    assert record.timestamp == 12.5


def test_an_entry_without_envelope_is_its_fields() -> None:
    record = read(b"1-1", [b"type", b"OrderCreated", b"_k", "ü".encode()])
    assert orjson.loads(record.value or b"") == {"type": "OrderCreated", "_k": "ü"}
    assert record.key is None
    assert record.headers == ()


def test_an_entry_that_is_not_text_keeps_its_bytes() -> None:
    assert read(b"1-1", [b"\xff\xfe", b"\x00\x01"]).value == b"\xff\xfe \x00\x01"


def test_an_entry_whose_time_is_none_has_that_of_its_id() -> None:
    for garbage in (b"soon", b"9" * 400, b""):
        record = read(b"1500-0", [b"_v", b"x", b"_t", garbage])
        assert (record.value, record.timestamp) == (b"x", 1.5)


def test_entries_of_one_moment_and_of_others_have_their_own_offsets() -> None:
    ids = [b"1500-0", b"1500-1", b"1500-18446744073709551615", b"1501-0", b"1500-7", LARGEST]
    records = decode((entry_id, [b"_v", entry_id, b"_k", b"key"]) for entry_id in ids)
    assert [record.offset for record in records] == [offset_of(entry_id) for entry_id in ids]
    assert [record.timestamp for record in records] == [seconds_of(r.offset) for r in records]
    assert [(record.value, record.key) for record in records] == [(i, b"key") for i in ids]


def test_an_entry_that_was_deleted_is_left_out() -> None:
    kept = [b"_v", b"x"]
    assert [r.offset for r in decode([(b"0-1", []), (b"0-2", kept), (b"0-3", [])])] == [2]


def test_a_numbered_entry_survives_with_its_source() -> None:
    entry = Outgoing("t", None, b"key", (("h", b"1"),))
    record = read(b"1-1", encode_numbered(b"lane", 7, entry))
    assert (record.value, record.key, record.headers) == (None, b"key", entry.headers)
    assert record.source == ("lane", 7)


def test_a_source_that_is_none_is_left_out() -> None:
    for garbage in (b"", b"lane", b"lane:", b"lane:seven", b"\xff:7"):
        record = read(b"1-1", [b"_v", b"x", b"_i", garbage])
        assert (record.value, record.source) == (b"x", None)
        record = read(b"1-1", [b"_v", b"x", b"_k", b"k", b"_i", garbage])
        assert (record.value, record.key, record.source) == (b"x", b"k", None)


def test_a_numbered_entry_without_headers_is_read_the_short_way() -> None:
    record = read(b"1-1", [b"_v", b"x", b"_k", b"k", b"_i", b"lane:7"])
    assert record[2:] == (b"k", b"x", (), ("lane", 7))


def test_a_header_whose_name_is_no_text_is_sent_all_the_same() -> None:
    assert encode(Outgoing("t", b"", None, (("a\ud800", b"1"),)))[-2:] == [b"_h:a?", b"1"]
