"""Entries and IDs of Redis Streams, there and back."""

from __future__ import annotations

import time

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redfaust.brokers.broker import Outgoing, Record
from redfaust.brokers.outgoing import EARLIEST, LATEST
from redfaust.brokers.redis.entry import decode, encode, encode_sequenced
from redfaust.brokers.redis.offsets import offset_of, seconds_of, stream_id
from redfaust.brokers.sequences import END_OF_NUMBERS, LogSigner, Signer

SECRET = b"s" * 32
STREAM = b"{t:0}"


def signer(*secrets: bytes, stream: bytes = STREAM) -> LogSigner:
    return Signer(secrets or (SECRET,)).log(stream)


def read(entry_id: bytes, fields: list[bytes], by: LogSigner | None = None) -> Record:
    (record,) = decode([(entry_id, fields)], by or signer())
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


@pytest.mark.parametrize(
    "garbage",
    [b"soon", b"9" * 400, b"", b"-1", b"1e30", b" 5", b"1_000", b"inf", b"253402300800000"],
)
def test_an_entry_whose_time_is_none_has_that_of_its_id(garbage: bytes) -> None:
    record = read(b"1500-0", [b"_v", b"x", b"_t", garbage])
    assert (record.value, record.timestamp) == (b"x", 1.5)


@pytest.mark.parametrize("entry_id", [LARGEST, b"20000000000000-0"])
def test_an_entry_whose_id_is_far_ahead_has_the_time_of_its_reading(entry_id: bytes) -> None:
    before = time.time()
    assert before <= read(entry_id, [b"_v", b"x"]).timestamp <= time.time()


def test_entries_of_one_moment_and_of_others_have_their_own_offsets() -> None:
    ids = [b"1500-0", b"1500-1", b"1500-18446744073709551615", b"1501-0", b"1500-7"]
    records = decode(((entry_id, [b"_v", entry_id, b"_k", b"key"]) for entry_id in ids), signer())
    assert [record.offset for record in records] == [offset_of(entry_id) for entry_id in ids]
    assert [record.timestamp for record in records] == [seconds_of(r.offset) for r in records]
    assert [(record.value, record.key) for record in records] == [(i, b"key") for i in ids]


def test_an_entry_that_was_deleted_is_left_out() -> None:
    kept = [b"_v", b"x"]
    entries: list[tuple[bytes, list[bytes]]] = [(b"0-1", []), (b"0-2", kept), (b"0-3", [])]
    assert [record.offset for record in decode(entries, signer())] == [2]


def test_the_fields_of_an_event_may_come_in_any_order() -> None:
    record = read(b"1-1", [b"_k", b"k", b"_h:a", b"1", b"_v", b"x", b"_t", b"1500"])
    assert record[1:] == (1.5, b"k", b"x", (("a", b"1"),), None)


def test_a_numbered_entry_survives_with_its_source() -> None:
    entry = Outgoing("t", None, b"key", (("h", b"1"),))
    record = read(b"1-1", encode_sequenced(b"producer_id", 7, entry, signer()))
    assert (record.value, record.key, record.headers) == (None, b"key", entry.headers)
    assert record.source == ("producer_id", 7)


def test_a_numbered_entry_without_headers_is_read_the_short_way() -> None:
    fields = encode_sequenced(b"producer_id", 7, Outgoing("t", b"x", b"k"), signer())
    assert fields[::2] == [b"_v", b"_k", b"_i"]
    assert read(b"1-1", fields)[2:] == (b"k", b"x", (), ("producer_id", 7))


def test_a_source_that_redfaust_has_not_signed_is_none() -> None:
    signed = signer().sign(b"producer_id", 7)
    forged = [
        *(b"", b"producer_id", b"producer:", b"producer:seven", b"\xff:7", b"a\0b:1", b":", b"::"),
        *(b"producer:7", b"producer:0", b"x:-5", b"producer:99999999999", b"producer:%d" % 10**20),
        *(
            b"producer:7:",
            b"producer:7:0000000000000000",
            b"producer:8:" + signed[-16:],
            signed + b" ",
        ),
        *(signed[:-1], signed.upper(), b"x" + signed, signed * 1000, b"x" * 1_000_000),
        signer(b"another secret").sign(b"producer_id", 7),
        signer(stream=b"{t:1}").sign(b"producer_id", 7),
    ]
    for source in forged:
        record = read(b"1-1", [b"_v", b"x", b"_i", source])
        assert (record.value, record.source) == (b"x", None)
        record = read(b"1-1", [b"_v", b"x", b"_k", b"k", b"_i", source])
        assert (record.value, record.key, record.source) == (b"x", b"k", None)
    assert read(b"1-1", [b"_v", b"x", b"_k", b"k", b"_i", signed]).source == ("producer_id", 7)


def test_what_was_signed_with_a_former_secret_stays_signed() -> None:
    fields = encode_sequenced(b"producer_id", 7, Outgoing("t", b"x"), signer(b"former"))
    assert read(b"1-1", fields, signer(b"now", b"former")).source == ("producer_id", 7)
    assert read(b"1-1", fields, signer(b"now")).source is None


def test_a_header_whose_name_is_no_text_is_sent_all_the_same() -> None:
    assert encode(Outgoing("t", b"", None, (("a\ud800", b"1"),)))[-2:] == [b"_h:a?", b"1"]


def test_an_entry_with_very_many_headers_is_read_in_linear_time() -> None:
    count = 200_000  # which take minutes where each copies those before it
    fields = [b"_v", b"x", *([b"_h:h", b"1"] * count)]
    assert len(read(b"1-1", fields).headers) == count


names = st.sampled_from([b"_v", b"_n", b"_k", b"_t", b"_i", b"_h:", b"_h:a"]) | st.builds(
    lambda name: b"_h:" + name, st.binary(max_size=8)
)
numbers = st.integers(-(10**30), 10**30).map(lambda number: b"%d" % number)
times = st.floats().map(lambda time: str(time).encode())
anything = st.binary(max_size=40) | numbers | times


@settings(deadline=None)
@given(
    entry_id=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
    fields=st.lists(names | st.binary(max_size=8) | anything, min_size=1, max_size=12),
)
@example(entry_id=(1, 1), fields=[b"_v"])
@example(entry_id=(1, 1), fields=[b"_v", b"x", b"_h:\0\xff\xed\xa0\x80", b"1", b"_t", b"nan"])
def test_whatever_an_entry_holds_it_is_a_valid_record(
    entry_id: tuple[int, int], fields: list[bytes]
) -> None:
    record = read(b"%d-%d" % entry_id, fields)
    assert record.offset == entry_id[0] << 64 | entry_id[1]
    assert EARLIEST <= record.timestamp <= LATEST
    assert record.source is None
    for name, content in record.headers:
        assert name.encode().count(b"\0") == 0
        assert isinstance(content, bytes)
    if b"_v" in fields[::2][: len(fields) // 2]:
        assert record.value in fields[1::2]


@settings(deadline=None)
@given(
    producer_id=st.from_regex(r"[!-9;-~]{1,200}", fullmatch=True), number=st.integers(1, 2**53 - 1)
)
@example(producer_id="a" * 200, number=END_OF_NUMBERS - 1)
def test_whatever_is_signed_is_verified_as_it_was(producer_id: str, number: int) -> None:
    by = signer()
    assert by.verify(by.sign(producer_id.encode(), number)) == (producer_id, number)
