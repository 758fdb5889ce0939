"""Producers: who numbers what is sent, and storing it with the transaction that sends it.

A *transactional_id* is whatever sends in one order: a partition of an application, whose owner
sends what its events send, or the relay. Its *producer* is drawn for it in this database, and is
the name by which streams know it: a copy of the database draws producers of its own. So does a
standby that was promoted: what it lacks may still be sent, under numbers that it would give again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from faust.types import TP

from redfaust import failpoints
from redfaust.brokers.broker import Outgoing, SequencedEntry
from redfaust.errors import ProducerFenced
from redfaust.outbox.entries import BATCH_BYTES, Staged, as_row, split
from redfaust.postgres.database import Connection
from redfaust.postgres.queries import load


class ProducerState(NamedTuple):
    """A producer in the hands of its owner."""

    id: str
    last_sequence: int
    """The last number given. Whoever finds another one is not alone."""


async def open_producers(
    connection: Connection, transactional_ids: Collection[str]
) -> dict[str, str]:
    """The producer id of each transactional id, drawn at first sight."""
    rows = await connection.fetch(_query("open_producers"), list(transactional_ids))
    return {row["transactional_id"]: row["producer_id"] for row in rows}


async def former_producers(connection: Connection, producer_ids: Collection[str]) -> list[str]:
    """The producers that the transactional_ids of these had before, with what may not be published
    yet."""
    rows = await connection.fetch(_query("select_former_producers"), list(producer_ids))
    return [row["producer_id"] for row in rows]


async def raise_sequences(
    connection: Connection, last_sequences: Mapping[str, Mapping[TP, int]], *, leave_out: int
) -> dict[str, int]:
    """Raise the last number of each producer above its last sequences, by ``leave_out``; return
    them.

    A database that was set back, by a restore or a replica that lagged, has forgotten numbers that
    streams have seen, and would take for repeats. A producer that it does not know is missing.
    """
    highest = [max(of_producer.values(), default=0) for of_producer in last_sequences.values()]
    rows = await connection.fetch(
        _query("raise_sequences"), list(last_sequences), highest, leave_out
    )
    return {row["producer_id"]: row["last_sequence"] for row in rows}


async def stage(
    connection: Connection, producer_ids: Mapping[str, tuple[int, Sequence[Outgoing]]]
) -> list[Staged]:
    """Store what producers send, within the caller's transaction, which has fenced others out.

    Each producer comes with its last number and the entries that get the numbers behind it. They
    are stored in batches and the producer's last number is raised, in one round trip unless there
    are more than :data:`~redfaust.outbox.entries.BATCH_BYTES`; producers without entries are left
    alone. After the commit the batches go to :meth:`redfaust.outbox.publisher.Publisher.put`.

    Raises :class:`~redfaust.errors.ProducerFenced` if a producer has another last number; then the
    transaction must be rolled back. Raises :class:`asyncpg.DataError` for what Postgres cannot
    store: a topic with NUL, a partition beyond four bytes.
    """
    batches = [
        batch
        for producer_id, (last_sequence, entries) in producer_ids.items()
        for batch in _batches(producer_id, last_sequence, entries)
    ]
    for statement in _statements(batches):
        await _store(connection, statement)
    if batches:
        failpoints.point("outbox.staged")
    return batches


async def _store(connection: Connection, batches: Sequence[Staged]) -> None:
    """Store at most one batch of each producer."""
    stored = await connection.fetch(
        _query("stage_batches"),
        [batch.producer_id for batch in batches],
        [batch.first_sequence - 1 for batch in batches],
        [len(batch.entries) for batch in batches],
        [as_row(sequenced) for batch in batches for sequenced in batch.entries],
    )
    overtaken = {batch.producer_id for batch in batches} - {row["producer_id"] for row in stored}
    if overtaken:
        raise ProducerFenced(
            f"{len(overtaken)} producers, {min(overtaken)} among them, were taken over by somebody "
            "else, or the database was set back: take them over again before sending"
        )


def _statements(batches: Sequence[Staged]) -> Iterator[Sequence[Staged]]:
    """Batches in their order, in statements of bounded size with one batch of a producer each."""
    statement: list[Staged] = []
    producer_ids: set[str] = set()
    size = 0
    for batch in batches:
        if statement and (batch.producer_id in producer_ids or size + batch.size > BATCH_BYTES):
            yield statement
            statement, producer_ids, size = [], set(), 0
        statement.append(batch)
        producer_ids.add(batch.producer_id)
        size += batch.size
    if statement:
        yield statement


def _batches(producer_id: str, last_sequence: int, entries: Sequence[Outgoing]) -> Iterator[Staged]:
    for part, size in split(entries):
        batch = _number(producer_id, last_sequence, part, size)
        yield batch
        last_sequence = batch.last_sequence


def _number(producer_id: str, last_sequence: int, entries: Sequence[Outgoing], size: int) -> Staged:
    sequenced = tuple(map(SequencedEntry, count(last_sequence + 1), entries))
    return Staged(producer_id, last_sequence + 1, last_sequence + len(sequenced), sequenced, size)


def _query(name: str) -> str:
    return load("redfaust.outbox", name)
