"""Lanes: who numbers what is sent, and storing it with the transaction that sends it.

A *producer* is whatever sends in one order: a partition of an application, whose owner sends what
its events send, or the relay. Its *lane* is drawn for it in this database, and is the name by which
streams know it: a copy of the database draws lanes of its own. So does a standby that was promoted:
what it lacks may still be sent, under numbers that it would give again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from faust.types import TP

from redfaust import failpoints
from redfaust.brokers.broker import Numbered, Outgoing
from redfaust.errors import LaneOvertaken
from redfaust.outbox.entries import BATCH_BYTES, Staged, as_row, split
from redfaust.postgres.database import Connection
from redfaust.postgres.queries import load


class Lane(NamedTuple):
    """A lane in the hands of its owner."""

    name: str
    last_number: int
    """The last number given. Whoever finds another one is not alone."""


async def open_lanes(connection: Connection, producers: Collection[str]) -> dict[str, str]:
    """The name of each producer's lane, drawn at first sight."""
    rows = await connection.fetch(_query("open_lanes"), list(producers))
    return {row["producer"]: row["lane"] for row in rows}


async def former_lanes(connection: Connection, lanes: Collection[str]) -> list[str]:
    """The lanes that the producers of these had before, with what may not be published yet."""
    rows = await connection.fetch(_query("select_former_lanes"), list(lanes))
    return [row["lane"] for row in rows]


async def raise_lanes(
    connection: Connection, marks: Mapping[str, Mapping[TP, int]], *, leave_out: int
) -> dict[str, int]:
    """Raise the last number of each lane above its marks, by ``leave_out``; return them.

    A database that was set back, by a restore or a replica that lagged, has forgotten numbers that
    streams have seen, and would take for repeats. A lane that it does not know is missing.
    """
    highest = [max(of_lane.values(), default=0) for of_lane in marks.values()]
    rows = await connection.fetch(_query("raise_lanes"), list(marks), highest, leave_out)
    return {row["lane"]: row["last_number"] for row in rows}


async def stage(
    connection: Connection, lanes: Mapping[str, tuple[int, Sequence[Outgoing]]]
) -> list[Staged]:
    """Store what lanes send, within the caller's transaction, which has fenced others out.

    Each lane comes with its last number and the entries that get the numbers behind it. They are
    stored in batches and the lane's last number is raised, in one round trip unless there are more
    than :data:`~redfaust.outbox.entries.BATCH_BYTES`; lanes without entries are left alone. After
    the commit the batches go to :meth:`redfaust.outbox.publisher.Publisher.put`.

    Raises :class:`~redfaust.errors.LaneOvertaken` if a lane has another last number; then the
    transaction must be rolled back. Raises :class:`asyncpg.DataError` for what Postgres cannot
    store: a topic with NUL, a partition beyond four bytes.
    """
    batches = [
        batch
        for lane, (last_number, entries) in lanes.items()
        for batch in _batches(lane, last_number, entries)
    ]
    for statement in _statements(batches):
        await _store(connection, statement)
    if batches:
        failpoints.point("outbox.staged")
    return batches


async def _store(connection: Connection, batches: Sequence[Staged]) -> None:
    """Store at most one batch of each lane."""
    stored = await connection.fetch(
        _query("stage_batches"),
        [batch.lane for batch in batches],
        [batch.first_number - 1 for batch in batches],
        [len(batch.entries) for batch in batches],
        [as_row(numbered) for batch in batches for numbered in batch.entries],
    )
    overtaken = {batch.lane for batch in batches} - {row["lane"] for row in stored}
    if overtaken:
        raise LaneOvertaken(
            f"{len(overtaken)} lanes, {min(overtaken)} among them, were taken over by somebody "
            "else, or the database was set back: take them over again before sending"
        )


def _statements(batches: Sequence[Staged]) -> Iterator[Sequence[Staged]]:
    """Batches in their order, in statements of bounded size with one batch of a lane each."""
    statement: list[Staged] = []
    lanes: set[str] = set()
    size = 0
    for batch in batches:
        if statement and (batch.lane in lanes or size + batch.size > BATCH_BYTES):
            yield statement
            statement, lanes, size = [], set(), 0
        statement.append(batch)
        lanes.add(batch.lane)
        size += batch.size
    if statement:
        yield statement


def _batches(lane: str, last_number: int, entries: Sequence[Outgoing]) -> Iterator[Staged]:
    for part, size in split(entries):
        batch = _number(lane, last_number, part, size)
        yield batch
        last_number = batch.last_number


def _number(lane: str, last_number: int, entries: Sequence[Outgoing], size: int) -> Staged:
    numbered = tuple(map(Numbered, count(last_number + 1), entries))
    return Staged(lane, last_number + 1, last_number + len(numbered), numbered, size)


def _query(name: str) -> str:
    return load("redfaust.outbox", name)
