"""Carries committed rows of the outbox onto their topics.

Publishing and sweeping are separate steps: a relay that dies between them leaves rows that the
next one publishes again, so delivery is at least once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import asyncpg

from connectors.outbox.headers import unpack
from connectors.postgres.database import Database
from connectors.postgres.queries import load
from connectors.transports.broker import Outgoing

CHANNEL = "redfaust_outbox"
"""What an insert into the outbox notifies."""
LOCK = 0x7265_6466_0002
"""Key of the session's advisory lock that makes one relay the active one."""
SPARE_POLL = 1.0
"""Seconds between a spare's attempts to become the active relay."""

Append: TypeAlias = Callable[[Sequence[Outgoing]], Awaitable[object]]
_Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Relay:
    """Publishes due rows, at most ``batch`` at a time, and looks for them every ``poll`` seconds
    even if no notification came.

    Rows without ``available_at`` go in the order of their numbers, scheduled ones in the order in
    which they come due. The lock belongs to the connection, so a dead relay is succeeded within
    ``SPARE_POLL`` seconds of Postgres noticing.
    """

    def __init__(
        self, database: Database, append: Append, *, batch: int = 500, poll: float = 1.0
    ) -> None:
        self._database = database
        self._append = append
        self._batch = batch
        self._poll = poll
        self._wake = asyncio.Event()
        self.active = False
        """Whether this relay publishes, or waits as a spare."""
        self.published = 0
        """Rows published since the start."""
        self.batches = 0
        """Batches published since the start."""

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until ``stop``; a batch that has begun is finished.

        Raises :class:`~connectors.errors.DatabaseUnavailable` when its connection is lost, and
        whatever ``append`` raises; then nothing is lost, and run may be called again.
        """
        watcher = asyncio.create_task(self._wake_at(stop))
        try:
            async with self._database.dedicated() as session:
                session.add_termination_listener(lambda _: self._wake.set())
                await session.add_listener(CHANNEL, lambda *_: self._wake.set())
                if await self._lead(session, stop):
                    self.active = True
                    await self._relay(session, stop)
        finally:
            self.active = False
            watcher.cancel()

    async def _lead(self, session: _Session, stop: asyncio.Event) -> bool:
        while not stop.is_set():
            self._wake.clear()
            if await session.fetchval(_query("try_lock"), LOCK):
                return True
            await self._rest(SPARE_POLL)
        return False

    async def _relay(self, session: _Session, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._wake.clear()
            rows = await session.fetch(_query("select_due"), self._batch)
            if rows:
                await self._publish(rows)
                await self._sweep(session, rows)
            else:
                await self._rest(await self._seconds_until_due(session))

    async def _publish(self, rows: Sequence[asyncpg.Record]) -> None:
        await self._append(
            [
                Outgoing(row["topic"], row["value"], row["key"], unpack(row["headers"]))
                for row in rows
            ]
        )
        self.batches += 1
        self.published += len(rows)

    async def _sweep(self, session: _Session, rows: Sequence[asyncpg.Record]) -> None:
        await session.execute(_query("delete_published"), [row["id"] for row in rows])

    async def _seconds_until_due(self, session: _Session) -> float:
        seconds: float | None = await session.fetchval(_query("seconds_until_due"))
        return self._poll if seconds is None else min(max(seconds, 0.0), self._poll)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()


def _query(name: str) -> str:
    return load("connectors.outbox", name)
