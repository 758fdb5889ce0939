"""Events that leave with the transaction that caused them, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson

from redfaust.brokers.broker import Outgoing
from redfaust.brokers.sendable import check_text, checked, checked_time
from redfaust.outbox.entries import split
from redfaust.outbox.headers import pack
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.queries import load

COUNTED = 10_000
"""Rows at which counting ends."""


class Scheduled(NamedTuple):
    """An entry that is to be sent later."""

    entry: Outgoing
    at: datetime


@dataclass(frozen=True, slots=True)
class Transaction:
    """One database transaction and the events that it sends."""

    connection: Connection
    """Inside the transaction: what it writes commits together with the events."""

    async def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: str | bytes | None = None,
        headers: Mapping[str, str] | None = None,
        available_at: datetime | None = None,
    ) -> int:
        """Put an event into the outbox and return the number of its row.

        It reaches its topic after the commit, and not before ``available_at`` (with time zone) if
        that lies ahead. Events of one key keep the order in which they were published; an event
        with ``available_at`` ahead takes its place when it is due.

        Raises :class:`asyncpg.InvalidParameterValueError`, with a hint, for a topic that
        ``redfaust.topics`` does not name, while it names any.
        Raises ValueError and TypeError for what cannot be sent; the transaction is as before then.
        """
        encoded = key.encode() if isinstance(key, str) else key
        due_at = None if available_at is None else checked_time("available_at", available_at)
        texts = dict(headers or {})
        for name, text in texts.items():
            if not (isinstance(name, str) and isinstance(text, str)):
                raise TypeError(f"headers={texts!r}: write a text for each name")
            check_text(f"the header {name!a}", name + text)
        entry = checked(Outgoing(topic, value, encoded))
        row_id: int = await self.connection.fetchval(
            load("redfaust.outbox", "publish_row"), topic, entry.key, entry.value, texts, due_at
        )
        return row_id


async def schedule(connection: Connection, entries: Iterable[Scheduled]) -> None:
    """Put entries into the outbox, within a transaction."""
    rows = [(e.topic, e.key, e.value, pack(e.headers), at) for e, at in entries]
    await connection.executemany(load("redfaust.outbox", "insert_row"), rows)


async def publish_all(connection: Connection, entries: Sequence[Outgoing]) -> None:
    """Put entries into the outbox, within a transaction: they are published in this order."""
    for part, _ in split(entries):
        await connection.execute(
            load("redfaust.outbox", "insert_rows"),
            [entry.topic for entry in part],
            [entry.partition for entry in part],
            [entry.key for entry in part],
            [entry.value for entry in part],
            # As texts: a list in a list would be taken for an array of two dimensions.
            [orjson.dumps(pack(entry.headers)).decode() for entry in part],
            [entry.timestamp for entry in part],
        )


class Outbox:
    """The writing end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def transaction(self, *, reset: bool = True) -> AsyncIterator[Transaction]:
        """Rows and events that commit together. An exception in the block takes both back.

        What the block sets for its session, such as a search path, is forgotten afterwards. That
        is a round trip, which ``reset=False`` saves where it sets nothing.

        Raises :class:`~redfaust.errors.DatabaseUnavailable`; if that happens at the commit,
        it may have happened all the same. It is raised too if the block says nothing to the
        database for ``SILENT_FOR`` seconds: wait for other servers outside of it.
        """
        async with self._database.transaction(reset=reset) as connection:
            yield Transaction(connection)


class OutboxStatus(NamedTuple):
    """What waits in the outbox. Counts end at :data:`COUNTED`."""

    depth: int
    """Entries that are due and not published."""
    oldest_age: float
    """Seconds for which the oldest of them has been due; 0 if there is none."""
    scheduled: int
    """Rows that are not due yet."""
    late: float
    """Seconds for which the oldest row that was scheduled has been due; 0 if none is."""


async def outbox_status(database: Database) -> OutboxStatus:
    """Count what waits now."""
    [row] = await database.fetch(load("redfaust.outbox", "select_status"), COUNTED)
    return OutboxStatus(
        row["depth"], max(row["oldest_age"], 0.0), row["scheduled"], max(row["late"], 0.0)
    )
