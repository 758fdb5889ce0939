"""What may be sent. It is checked where it is sent, in the stack of whoever sends it, so that no
entry that is on its way holds up others.

Each error says what to write instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from redfaust.brokers.broker import Headers, Outgoing
from redfaust.brokers.names import topic_fault
from redfaust.brokers.outgoing import timestamp_fault

LARGEST = 256 << 20
"""Bytes of the key, value and headers of an entry. Redis takes 512 MB of each, and a statement of
Postgres has room for 1 GB."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BYTES = bytes | bytearray | memoryview


def checked(entry: Outgoing) -> Outgoing:
    """The entry as brokers and Postgres take it. Raises ValueError and TypeError.

    Whether the topic has the partition is for :func:`check_partition`.
    """
    topic, value, key, headers, partition, timestamp = entry
    check_topic(topic)
    value, key = as_content("value", value), as_content("key", key)
    size = len(value or b"") + len(key or b"") + sum(len(n) + len(v) for n, v in headers)
    if size > LARGEST:
        raise ValueError(
            f"an event for {topic} has {size} bytes: send up to {LARGEST}, and put what is larger "
            "where its event can refer to it"
        )
    return Outgoing(topic, value, key, headers, partition, checked_timestamp(timestamp))


def check_topic(topic: object) -> None:
    """Raises ValueError for a name that no topic may have."""
    if not isinstance(topic, str):
        raise TypeError(f"a topic's name is a text, not {type(topic).__name__}")
    if (fault := topic_fault(topic)) is not None:
        raise ValueError(fault)


def as_content(what: str, content: object) -> bytes | None:
    """A key or a value."""
    if content is None or type(content) is bytes:
        return content
    if isinstance(content, _BYTES):
        return bytes(content)
    raise TypeError(
        f"the {what} of an event has to be bytes here, not {type(content).__name__}: encode it, or "
        "send it by app.topic(…).send(), which does"
    )


def check_partition(topic: str, partition: object, count: int | None) -> None:
    """Raises for what is no partition of a topic with so many; ``None``: that is not known."""
    if not isinstance(partition, int) or isinstance(partition, bool):
        raise TypeError(f"partition={partition!r}: write a number from 0, or None for the key's")
    if partition < 0 or partition >= (1 << 31 if count is None else count):
        last = "" if count is None else f" to {count - 1}"
        raise ValueError(
            f"topic {topic} has no partition {partition}: write one from 0{last}, or None for the "
            "key's"
        )


def checked_timestamp(timestamp: object) -> float | None:
    """Seconds since the epoch, within what Python, Postgres and brokers have dates for."""
    if timestamp is None:
        return None
    if not isinstance(timestamp, int | float) or isinstance(timestamp, bool):
        raise TypeError(
            f"timestamp={timestamp!r}: write seconds since 1970, such as time.time(), or None"
        )
    if (fault := timestamp_fault(timestamp)) is not None:
        raise ValueError(fault)
    return float(timestamp)


def checked_time(name: str, at: object) -> datetime:
    """A time, in UTC, at which something can be sent."""
    if not isinstance(at, datetime):
        raise TypeError(f"{name}={at!r}: write a datetime with a time zone")
    if at.utcoffset() is None:
        raise ValueError(f"{name} needs a time zone, for instance datetime.now(UTC)")
    try:
        moment = at.astimezone(UTC)
    except OverflowError:
        moment = None
    if moment is None or moment < _EPOCH:
        raise ValueError(f"{name}={at.isoformat()}: write a time from 1970 to 9999, as UTC has it")
    return moment


def as_headers(pairs: Iterable[tuple[object, object]]) -> Headers:
    """Names are texts, values bytes or what becomes a text."""
    return tuple((_header_name(name), _header_value(name, value)) for name, value in pairs)


def _header_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a header is a text, not {name!r}")
    check_text(f"the name of the header {name!a}", name)
    return name


def _header_value(name: object, value: object) -> bytes:
    if isinstance(value, _BYTES):
        return bytes(value)
    try:
        return str(value).encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"the header {name!a} is a text with lone surrogates: send it as bytes"
        ) from None


def check_text(what: str, text: str) -> None:
    """Raises ValueError for what no text of Postgres may have."""
    if "\0" in text or not (text.isascii() or _is_encodable(text)):
        raise ValueError(f"{what} has NUL or lone surrogates: leave them out")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
