"""How an event is written as a stream entry.

======================  ====================================================================
``_v``                  the value; or ``_n`` (empty) where the value is null
``_k``                  the key, absent where it is null
``_t``                  the time in milliseconds, absent where it is the time of the ID
``_h:<name>``           a header each, in order
``_i``                  the producer that sent it and its number there, signed (see
                        :mod:`redfaust.brokers.sequences`); absent where it was not appended
                        once
======================  ====================================================================

An entry that has neither ``_v`` nor ``_n`` was written by somebody who knows nothing of this
table, with ``redis-cli XADD`` for example. It is an event all the same: its fields are its value,
as a JSON object of texts, and it has no key and no headers.

Anybody may write anything into a stream, so whatever an entry holds is read as a valid record: a
time that is none, or lies before 1970 or behind 9999, is that of the ID; a source that redfaust has
not signed is none; of the name of a header, what is no text is replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from time import time as clock

import orjson

from redfaust.brokers import outgoing
from redfaust.brokers.broker import Headers, Outgoing, Record
from redfaust.brokers.names import LONGEST_TOPIC, header_name
from redfaust.brokers.outgoing import LATEST
from redfaust.brokers.redis.offsets import offset_of, seconds_of
from redfaust.brokers.sequences import LogSigner, Source
from redfaust.errors import BrokerError

VALUE = b"_v"
NULL = b"_n"
KEY = b"_k"
TIME = b"_t"
HEADER = b"_h:"
SOURCE = b"_i"

MAX_HEADERS = 3_000
"""Headers of an entry; Lua hands no more than 8,000 values to a function."""

AHEAD = 86_400.0
"""Seconds by which an ID may be ahead of this clock. One that is further ahead says nothing of when
its entry was appended: its time is that at which it is read."""

_LATEST = int(LATEST) * 1000
_LATEST_DIGITS = len(str(_LATEST))


def refusal_of(entry: Outgoing, partitions: Mapping[str, int]) -> BrokerError | None:
    """Why an entry cannot be appended, if it cannot. ``partitions`` are those of all topics that
    have a proper name."""
    if len(entry.headers) > MAX_HEADERS:
        return BrokerError(
            f"an entry for {entry.topic[:LONGEST_TOPIC]!a} has {len(entry.headers)} headers, more "
            f"than can be appended: send up to {MAX_HEADERS}"
        )
    return outgoing.refusal_of(entry, partitions)


def encode(entry: Outgoing) -> list[bytes]:
    """Fields and values, one after the other, as ``XADD`` takes them."""
    _, value, key, headers, _, timestamp = entry
    fields = [NULL, b""] if value is None else [VALUE, value]
    if key is not None:
        fields += (KEY, key)
    if timestamp is not None:
        fields += (TIME, b"%d" % round(timestamp * 1000))
    for name, content in headers:
        fields += (HEADER + header_name(name).encode(), content)
    return fields


def encode_sequenced(
    producer_id: bytes, number: int, entry: Outgoing, signer: LogSigner
) -> list[bytes]:
    """The same with its source, which is the last of the values."""
    fields = encode(entry)
    fields += (SOURCE, signer.sign(producer_id, number))
    return fields


def decode(entries: Iterable[tuple[bytes, Sequence[bytes]]], signer: LogSigner) -> list[Record]:
    """Read entries of a stream as they come from ``XREAD``: each its ID, then its fields and values
    in turn. An entry that was deleted has no fields, and is left out."""
    records = []
    now = clock()
    last, first_offset, time = b"", 0, 0.0
    for entry_id, fields in entries:
        if not fields:
            continue
        milliseconds, _, sequence = entry_id.partition(b"-")
        if milliseconds != last:  # where speed matters, many entries are of one millisecond
            last, first_offset = milliseconds, offset_of(milliseconds)
            time = seconds_of(first_offset)
            if time > now + AHEAD:  # whoever writes may choose the ID, and all that follow go on
                time = now
        offset = first_offset | int(sequence)
        match fields:
            case [b"_v", value, b"_k", key]:  # what nearly all are, so that it is worth its own way
                records.append(_record(Record, (offset, time, key, value, (), None)))
            case [b"_v", value, b"_k", key, b"_i", signed]:
                source = signer.verify(signed)
                records.append(_record(Record, (offset, time, key, value, (), source)))
            case _:
                records.append(Record(offset, *_decode(fields, time, signer)))
    return records


_Content = tuple[float, bytes | None, bytes | None, Headers, Source | None]
"""What a record has after its offset."""

_record = tuple.__new__
"""Makes the named tuple without its class's function in Python, which would double the cost."""


def _decode(fields: Sequence[bytes], time: float, signer: LogSigner) -> _Content:
    is_ours = False
    value = key = source = None
    time_of_id = time
    headers = []
    for name, content in zip(fields[::2], fields[1::2], strict=False):
        if name == VALUE:
            value, is_ours = content, True
        elif name == NULL:
            is_ours = True
        elif name == KEY and key is None:
            key = content
        elif name == TIME:
            time = _seconds(content, otherwise=time)
        elif name.startswith(HEADER):
            headers.append((header_name(name[len(HEADER) :].decode("utf-8", "replace")), content))
        elif name == SOURCE:
            source = signer.verify(content)
    if is_ours:
        return time, key, value, tuple(headers), source
    return time_of_id, None, _foreign_value(fields), (), None


def _seconds(milliseconds: bytes, *, otherwise: float) -> float:
    if not milliseconds.isdigit() or len(milliseconds) > _LATEST_DIGITS:
        return otherwise
    found = int(milliseconds)
    return found / 1000 if found <= _LATEST else otherwise


def _foreign_value(fields: Sequence[bytes]) -> bytes:
    texts = [field.decode("utf-8", "surrogateescape") for field in fields]
    try:
        return orjson.dumps(dict(zip(texts[::2], texts[1::2], strict=False)))
    except orjson.JSONEncodeError:
        # Not text. The bytes themselves are the value, so that nothing of them is lost on
        # the way to the dead letters.
        return b" ".join(fields)
