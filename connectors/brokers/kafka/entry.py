"""How an event lies on a log: as any producer would write it, and a header more where it was
appended once, which names the lane that sent it and its number there (``lane:number``)."""

from __future__ import annotations

from typing import Any

from connectors.brokers.broker import Numbered, Outgoing, Record

SOURCE = "redfaust-source"
"""The header's name. Readers see it as :attr:`Record.source`, and not among the headers."""


def with_source(lane: str, numbered: Numbered) -> Outgoing:
    """An entry that is appended once, as it is sent."""
    number, entry = numbered
    source = (SOURCE, b"%s:%d" % (lane.encode(), number))
    return entry._replace(headers=(*entry.headers, source))


def as_record(stored: Any) -> Record:
    """A record as aiokafka has read it, as ours."""
    headers, source = stored.headers, None
    if headers:
        headers = tuple((name, value or b"") for name, value in headers if name != SOURCE)
        if len(headers) < len(stored.headers):
            source = _source(dict(stored.headers)[SOURCE] or b"")
    return Record(stored.offset, stored.timestamp / 1000, stored.key, stored.value, headers, source)


def _source(content: bytes) -> tuple[str, int] | None:
    lane, _, number = content.rpartition(b":")
    try:
        return lane.decode(), int(number)
    except ValueError:
        return None  # anybody may write anything
