"""How an event lies on a log: as any producer would write it, and a header more where it was
appended once, which names the producer that sent it and its number there, signed (see
:mod:`redfaust.brokers.sequences`).

Anybody may write anything, so whatever lies there is read as a valid record: a header of that name
that redfaust has not signed counts for nothing, a time before 1970 or behind 9999 is moved there.
"""

from __future__ import annotations

from typing import Any

from redfaust.brokers.broker import Headers, Outgoing, Record, SequencedEntry
from redfaust.brokers.names import header_name
from redfaust.brokers.outgoing import EARLIEST, LATEST
from redfaust.brokers.sequences import LogSigner, Signer

SOURCE = "redfaust-source"
"""The header's name. Readers see it as :attr:`Record.source`, and not among the headers."""


def log_of(signer: Signer, topic: str, partition: int) -> LogSigner:
    """What signs the sources of a partition."""
    return signer.log(b"%b:%d" % (topic.encode(), partition))


def with_source(signer: LogSigner, producer_id: str, sequenced: SequencedEntry) -> Outgoing:
    """An entry that is appended once, as it is sent."""
    number, entry = sequenced
    source = (SOURCE, signer.sign(producer_id.encode(), number))
    return entry._replace(headers=(*entry.headers, source))


def as_record(stored: Any, signer: Signer) -> Record:
    """A record as aiokafka has read it, as ours."""
    headers: Headers = ()
    source = None
    if stored.headers:
        headers = tuple(
            (header_name(name), value or b"") for name, value in stored.headers if name != SOURCE
        )
        log = log_of(signer, stored.topic, stored.partition)
        for name, value in stored.headers:
            if name == SOURCE and source is None:
                source = log.verify(value or b"")
    time = min(max(stored.timestamp / 1000, EARLIEST), LATEST)
    return Record(stored.offset, time, stored.key, stored.value, headers, source)
