"""How an event is written as a stream entry.

======================  ====================================================================
``_v``                  the value; or ``_n`` (empty) where the value is null
``_k``                  the key, absent where it is null
``_t``                  the time in milliseconds, absent where it is the time of the ID
``_h:<name>``           a header each, in order
======================  ====================================================================

An entry that has neither ``_v`` nor ``_n`` was written by somebody who knows nothing of this
table, with ``redis-cli XADD`` for example. It is an event all the same: its fields are its value,
as a JSON object of texts, and it has no key and no headers.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from connectors.transports.broker import Headers, Outgoing, Record
from connectors.transports.redis.offsets import offset_of, seconds_of

VALUE = b"_v"
NULL = b"_n"
KEY = b"_k"
TIME = b"_t"
HEADER = b"_h:"


def encode(entry: Outgoing) -> list[bytes | int]:
    """Fields and values, one after the other, as ``XADD`` takes them."""
    fields: list[bytes | int] = [NULL, b""] if entry.value is None else [VALUE, entry.value]
    if entry.key is not None:
        fields += (KEY, entry.key)
    if entry.timestamp is not None:
        fields += (TIME, round(entry.timestamp * 1000))
    for name, value in entry.headers:
        fields += (HEADER + name.encode(), value)
    return fields


def decode(stream_id: bytes, fields: Sequence[bytes]) -> Record:
    """Read an entry as it comes from ``XREAD``: its ID, and fields and values in turn."""
    offset = offset_of(stream_id)
    key = None
    timestamp = seconds_of(offset)
    headers: Headers = ()
    match fields[0]:
        case b"_v":
            value: bytes | None = fields[1]
        case b"_n":
            value = None
        case _:
            return Record(offset, timestamp, None, _foreign_value(fields), ())
    for position in range(2, len(fields), 2):
        name, content = fields[position], fields[position + 1]
        if name == KEY:
            key = content
        elif name == TIME:
            timestamp = _seconds(content, otherwise=timestamp)
        elif name.startswith(HEADER):
            headers += ((name[len(HEADER) :].decode("utf-8", "replace"), content),)
    return Record(offset, timestamp, key, value, headers)


def _seconds(milliseconds: bytes, *, otherwise: float) -> float:
    """Anybody may write anything; an entry whose time is none is read all the same."""
    try:
        return int(milliseconds) / 1000
    except (ValueError, OverflowError):
        return otherwise


def _foreign_value(fields: Sequence[bytes]) -> bytes:
    texts = [field.decode("utf-8", "surrogateescape") for field in fields]
    try:
        return orjson.dumps(dict(zip(texts[::2], texts[1::2], strict=True)))
    except orjson.JSONEncodeError:
        # Not text. The bytes themselves are the value, so that nothing of them is lost on
        # the way to the dead letters.
        return b" ".join(fields)
