"""Lanes: who numbers what is sent, and storing it with the transaction that sends it.

A *producer* is whatever sends in one order: a partition of an application, whose owner sends what
its events send, or the relay. Its *lane* is drawn for it in this database, and is the name by which
streams know it: a copy of the database draws lanes of its own. So does a standby that was promoted:
what it lacks may still be sent, under numbers that it would give again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from faust.types import TP

from connectors import crash
from connectors.brokers.broker import Numbered, Outgoing
from connectors.errors import LaneOvertaken
from connectors.outbox.entries import Staged, as_row
from connectors.postgres.database import Connection
from connectors.postgres.queries import load

STATEMENT_BYTES = 64 << 20
"""Keys and values that are stored in one go; an entry that is larger goes alone. The server takes
no statement of 1 GB."""


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

    Each lane comes with its last number and the entries that get the numbers behind it. One batch
    a lane is stored and its last number raised, in one round trip; several, one by one, where they
    have more than ``STATEMENT_BYTES``. Lanes without entries are left alone. After the commit the
    batches go to :meth:`connectors.outbox.publisher.Publisher.put`.

    Raises :class:`~connectors.errors.LaneOvertaken` if a lane has another last number; then the
    transaction must be rolled back. Raises :class:`asyncpg.DataError` for what Postgres cannot
    store: a topic with NUL, a partition beyond four bytes.
    """
    batches: list[Staged] = []
    size = 0
    for lane, (last_number, entries) in lanes.items():
        if entries:
            of_lane, bytes_of_lane = _number(lane, last_number, entries)
            batches += of_lane
            size += bytes_of_lane
    if not batches:
        return batches
    if size > STATEMENT_BYTES:
        for batch in batches:
            await _store(connection, [batch])
    else:
        await _store(connection, batches)
    crash.point("outbox.staged")
    return batches


async def _store(connection: Connection, batches: Sequence[Staged]) -> None:
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


def _number(lane: str, last_number: int, entries: Sequence[Outgoing]) -> tuple[list[Staged], int]:
    """One batch, or several if it would be too large, and the bytes of them all."""
    batches = []
    begin = size = before = 0
    for end, entry in enumerate(entries):
        added = len(entry.value or b"") + len(entry.key or b"")
        if size and size + added > STATEMENT_BYTES:
            batches.append(_batch(lane, last_number + begin, entries[begin:end]))
            before += size
            begin, size = end, 0
        size += added
    return [*batches, _batch(lane, last_number + begin, entries[begin:])], before + size


def _batch(lane: str, last_number: int, entries: Sequence[Outgoing]) -> Staged:
    numbered = tuple(map(Numbered, count(last_number + 1), entries))
    return Staged(lane, last_number + 1, last_number + len(numbered), numbered)


def _query(name: str) -> str:
    return load("connectors.outbox", name)
