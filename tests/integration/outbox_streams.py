"""A log that is told what to do, and what tests of the outbox have to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from faust.types import TP

from connectors.outbox.journal import Logs
from connectors.outbox.outbox import Outbox, outbox_status
from connectors.outbox.relay import Relay
from connectors.postgres.database import Database
from connectors.transports.broker import LaneBatch, Outgoing, Place

TIMEOUT = 10.0
ORDERS = TP("orders", 0)
NEVER = 600.0
"""A poll that no test waits for: what arrives was notified, or due."""


class Stream:
    """Takes what relays append: one log."""

    def __init__(self) -> None:
        self.entries: list[Outgoing] = []
        self.batches: list[int] = []
        self._marks: dict[str, int] = {}
        self._grown = asyncio.Condition()

    async def append_once(self, batches: Sequence[LaneBatch]) -> Mapping[str, Mapping[TP, Place]]:
        async with self._grown:
            for lane, entries, after in batches:
                mark = self._marks.get(lane, 0)
                assert after.get(ORDERS, 0) <= mark
                self.entries += [entry for number, entry in entries if number > mark]
                self.batches.append(len(entries))
                self._marks[lane] = max(mark, *(number for number, _ in entries))
            self._grown.notify_all()
            return {
                batch.lane: {ORDERS: Place(self._marks[batch.lane], len(self.entries))}
                for batch in batches
            }

    async def marks(self, lanes: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        return {lane: {ORDERS: self._marks[lane]} if lane in self._marks else {} for lane in lanes}

    async def reaches(self, length: int) -> list[bytes | None]:
        async with asyncio.timeout(TIMEOUT), self._grown:
            await self._grown.wait_for(lambda: len(self.entries) >= length)
        return [entry.value for entry in self.entries]


class Halting(Stream):
    """Stops the first relay just before its first batch reaches the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.halted = asyncio.Event()
        self.go_on = asyncio.Event()

    async def append_once(self, batches: Sequence[LaneBatch]) -> Mapping[str, Mapping[TP, Place]]:
        if not self.halted.is_set():
            self.halted.set()
            await self.go_on.wait()
        return await super().append_once(batches)


async def nothing_is_refused(*_: object) -> None:
    raise AssertionError


def new_relay(
    database: Database,
    logs: Logs,
    *,
    kind: type[Relay] = Relay,
    batch: int = 500,
    poll: float = NEVER,
) -> Relay:
    return kind(database, logs, set_aside=nothing_is_refused, batch=batch, poll=poll)


@asynccontextmanager
async def running(
    database: Database, logs: Logs, *, batch: int = 500, poll: float = NEVER
) -> AsyncIterator[Relay]:
    relay, stop = new_relay(database, logs, batch=batch, poll=poll), asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    try:
        yield relay
    finally:
        stop.set()
        await asyncio.wait_for(task, TIMEOUT)


async def publish(database: Database, *values: bytes, available_at: datetime | None = None) -> None:
    async with Outbox(database).transaction() as tx:
        for value in values:
            await tx.publish("orders", value, key="o-1", available_at=available_at)


async def eventually(check: Callable[[], Awaitable[object]]) -> None:
    """Wait for what nobody announces."""
    async with asyncio.timeout(TIMEOUT):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def drained(database: Database) -> None:
    """Wait until the outbox holds nothing that is due."""

    async def is_empty() -> bool:
        return (await outbox_status(database)).depth == 0

    await eventually(is_empty)


async def kill_session_of(database: Database, query: str) -> int:
    """End the sessions whose last statement contains the text; return how many."""
    async with database.transaction() as connection:
        killed: int = await connection.fetchval(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND strpos(query, $1) > 0",
            query,
        )
        return killed


async def is_active(*relays: Relay) -> None:
    """Wait until one of them is."""

    async def check() -> bool:
        return any(relay.active for relay in relays)

    await eventually(check)
