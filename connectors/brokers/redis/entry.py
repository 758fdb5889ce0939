"""How an event is written as a stream entry.

======================  ====================================================================
``_v``                  the value; or ``_n`` (empty) where the value is null
``_k``                  the key, absent where it is null
``_t``                  the time in milliseconds, absent where it is the time of the ID
``_h:<name>``           a header each, in order
``_i``                  the lane that sent it and its number there, ``lane:number``; absent where
                        it was not appended once
======================  ====================================================================

An entry that has neither ``_v`` nor ``_n`` was written by somebody who knows nothing of this
table, with ``redis-cli XADD`` for example. It is an event all the same: its fields are its value,
as a JSON object of texts, and it has no key and no headers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from connectors.brokers.broker import Headers, Outgoing, Record
from connectors.brokers.redis.offsets import offset_of, seconds_of
from connectors.errors import BrokerError

VALUE = b"_v"
NULL = b"_n"
KEY = b"_k"
TIME = b"_t"
HEADER = b"_h:"
SOURCE = b"_i"

MAX_HEADERS = 3_000
"""Headers of an entry; Lua hands no more than 8,000 values to a function."""


def refusal_of(entry: Outgoing) -> BrokerError | None:
    """Why an entry cannot be appended, if it cannot."""
    if len(entry.headers) <= MAX_HEADERS:
        return None
    return BrokerError(
        f"an entry for {entry.topic} has {len(entry.headers)} headers, more than can be appended: "
        f"send up to {MAX_HEADERS}"
    )


def encode(entry: Outgoing) -> list[bytes]:
    """Fields and values, one after the other, as ``XADD`` takes them."""
    _, value, key, headers, _, timestamp = entry
    fields = [NULL, b""] if value is None else [VALUE, value]
    if key is not None:
        fields += (KEY, key)
    if timestamp is not None:
        fields += (TIME, b"%d" % round(timestamp * 1000))
    for name, content in headers:
        fields += (HEADER + name.encode("utf-8", "replace"), content)
    return fields


def encode_numbered(lane: bytes, number: int, entry: Outgoing) -> list[bytes]:
    """The same with its source."""
    return [*encode(entry), SOURCE, b"%s:%d" % (lane, number)]


def decode(entries: Iterable[tuple[bytes, Sequence[bytes]]]) -> list[Record]:
    """Read entries of a stream as they come from ``XREAD``: each its ID, then its fields and values
    in turn. An entry that was deleted has no fields, and is left out."""
    records = []
    last, first_offset, time = b"", 0, 0.0
    for entry_id, fields in entries:
        if not fields:
            continue
        milliseconds, _, sequence = entry_id.partition(b"-")
        if milliseconds != last:  # where speed matters, many entries are of one millisecond
            last, first_offset = milliseconds, offset_of(milliseconds)
            time = seconds_of(first_offset)
        offset = first_offset | int(sequence)
        match fields:
            case [b"_v", value, b"_k", key]:  # what nearly all are, so that it is worth its own way
                records.append(_record(Record, (offset, time, key, value, (), None)))
            case [b"_v", value, b"_k", key, b"_i", source]:
                records.append(_record(Record, (offset, time, key, value, (), _source(source))))
            case _:
                records.append(Record(offset, *_decode(fields, time)))
    return records


_Content = tuple[float, bytes | None, bytes | None, Headers, tuple[str, int] | None]
"""What a record has after its offset."""

_record = tuple.__new__
"""Makes the named tuple without its class's function in Python, which would double the cost."""


def _decode(fields: Sequence[bytes], time: float) -> _Content:
    key = None
    headers: Headers = ()
    source = None
    match fields[0]:
        case b"_v":
            value: bytes | None = fields[1]
        case b"_n":
            value = None
        case _:
            return time, None, _foreign_value(fields), (), None
    for position in range(2, len(fields), 2):
        name, content = fields[position], fields[position + 1]
        if name == KEY:
            key = content
        elif name == TIME:
            time = _seconds(content, otherwise=time)
        elif name.startswith(HEADER):
            headers += ((name[len(HEADER) :].decode("utf-8", "replace"), content),)
        elif name == SOURCE:
            source = _source(content)
    return time, key, value, headers, source


def _seconds(milliseconds: bytes, *, otherwise: float) -> float:
    """Anybody may write anything; an entry whose time is none is read all the same."""
    try:
        return int(milliseconds) / 1000
    except (ValueError, OverflowError):
        return otherwise


def _source(content: bytes) -> tuple[str, int] | None:
    lane, _, number = content.rpartition(b":")
    try:
        return lane.decode(), int(number)
    except ValueError:
        return None


def _foreign_value(fields: Sequence[bytes]) -> bytes:
    texts = [field.decode("utf-8", "surrogateescape") for field in fields]
    try:
        return orjson.dumps(dict(zip(texts[::2], texts[1::2], strict=True)))
    except orjson.JSONEncodeError:
        # Not text. The bytes themselves are the value, so that nothing of them is lost on
        # the way to the dead letters.
        return b" ".join(fields)
