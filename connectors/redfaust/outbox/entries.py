"""Numbered entries as they lie in ``redfaust.batches``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import asyncpg

from redfaust.brokers.broker import Outgoing, SequencedEntry
from redfaust.outbox.headers import pack, unpack

BATCH_BYTES = 16 << 20
"""Bytes after which a batch, a page of batches or a statement takes no further entry. A larger
entry goes alone. Postgres admits a gigabyte for an array, and a page that is read is in memory as
a whole."""


class Staged(NamedTuple):
    """A batch of a producer, stored and to be published."""

    producer_id: str
    first_sequence: int
    last_sequence: int
    """With the producer, what the batch is known by."""
    entries: tuple[SequencedEntry, ...]
    size: int
    """About how many bytes its entries take."""


def size_of(entry: Outgoing) -> int:
    """About how many bytes an entry takes."""
    _, value, key, headers, _, _ = entry
    size = (len(value) if value else 0) + (len(key) if key else 0)
    for name, content in headers:
        size += len(name) + len(content)
    return size


def split(entries: Sequence[Outgoing]) -> Iterator[tuple[Sequence[Outgoing], int]]:
    """Entries in their order, in parts of :data:`BATCH_BYTES` at most, with their bytes; a larger
    entry is a part by itself."""
    begin, size = 0, 0
    for place, entry in enumerate(entries):
        own = size_of(entry)
        if place > begin and size + own > BATCH_BYTES:
            yield entries[begin:place], size
            begin, size = place, 0
        size += own
    if begin < len(entries):
        yield entries[begin:], size


def as_row(sequenced: SequencedEntry) -> tuple[object, ...]:
    """A ``redfaust.entry``."""
    number, entry = sequenced
    return (
        number,
        entry.topic,
        entry.partition,
        entry.key,
        entry.value,
        pack(entry.headers),
        entry.timestamp,
    )


def from_rows(rows: Iterable[asyncpg.Record]) -> tuple[SequencedEntry, ...]:
    """Each ``redfaust.entry``, as it was."""
    return tuple(
        SequencedEntry(number, Outgoing(topic, value, key, unpack(headers), partition, timestamp))
        for number, topic, partition, key, value, headers, timestamp in rows
    )


def staged(rows: Sequence[asyncpg.Record]) -> list[Staged]:
    """Batches, from queries that select these four columns."""
    return [_staged(*row) for row in rows]


def _staged(producer_id: str, first: int, last: int, rows: Sequence[asyncpg.Record]) -> Staged:
    entries = from_rows(rows)
    return Staged(producer_id, first, last, entries, sum(size_of(entry) for _, entry in entries))
