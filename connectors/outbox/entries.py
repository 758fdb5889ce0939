"""Numbered entries as they lie in ``redfaust.batches``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import asyncpg

from connectors.brokers.broker import Numbered, Outgoing
from connectors.outbox.headers import pack, unpack


class Staged(NamedTuple):
    """A batch of a lane, stored and to be published."""

    lane: str
    first_number: int
    last_number: int
    """With the lane, what the batch is known by."""
    entries: tuple[Numbered, ...]


def as_row(numbered: Numbered) -> tuple[object, ...]:
    """A ``redfaust.entry``."""
    number, entry = numbered
    return (
        number,
        entry.topic,
        entry.partition,
        entry.key,
        entry.value,
        pack(entry.headers),
        entry.timestamp,
    )


def from_rows(rows: Iterable[asyncpg.Record]) -> tuple[Numbered, ...]:
    """Each ``redfaust.entry``, as it was."""
    return tuple(
        Numbered(number, Outgoing(topic, value, key, unpack(headers), partition, timestamp))
        for number, topic, partition, key, value, headers, timestamp in rows
    )


def staged(rows: Sequence[asyncpg.Record]) -> list[Staged]:
    """Batches, from queries that select these four columns."""
    return [
        Staged(lane, first_number, last_number, from_rows(entries))
        for lane, first_number, last_number, entries in rows
    ]
