"""A log that is told what to do, and what tests of the outbox have to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from datetime import datetime

from faust.types import TP

from redfaust.brokers.broker import LogTruncated, Outgoing, Place, ProducerBatch
from redfaust.outbox.batch_publisher import DeadLetterEntry, Logs
from redfaust.outbox.entries import Staged
from redfaust.outbox.outbox import Outbox, outbox_status
from redfaust.outbox.producers import ProducerState, stage
from redfaust.outbox.publisher import Publisher
from redfaust.outbox.relay import Relay
from redfaust.postgres.database import Database

TIMEOUT = 10.0
ORDERS = TP("orders", 0)
OWNER = "shop/orders/0"
NEVER = 600.0
"""A poll that no test waits for: what arrives was notified, or due."""


class Stream:
    """Takes what relays and owners append: one log."""

    def __init__(self) -> None:
        self.entries: list[Outgoing] = []
        self.batches: list[int] = []
        self.name = "first"
        self.floor: int | None = None
        self._sources: list[tuple[str, int]] = []
        self._grown = asyncio.Condition()

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        async with self._grown:
            set_back = {
                b.producer_id for b in batches if b.after.get(ORDERS, 0) > self._mark(b.producer_id)
            }
            if set_back:
                raise LogTruncated(set_back)
            for producer_id, entries, _ in batches:
                last_sequence = self._mark(producer_id)
                new = [sequenced for sequenced in entries if sequenced.number > last_sequence]
                self.entries += [entry for _, entry in new]
                self._sources += [(producer_id, number) for number, _ in new]
                self.batches.append(len(entries))
            self._grown.notify_all()
            return {
                batch.producer_id: {ORDERS: Place(self._mark(batch.producer_id), len(self.entries))}
                for batch in batches
                if batch.entries
            }

    def _mark(self, producer_id: str) -> int:
        return max((number for name, number in self._sources if name == producer_id), default=0)

    async def last_sequences(self, producer_ids: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        last_sequences = {producer_id: self._mark(producer_id) for producer_id in producer_ids}
        return {
            producer_id: {ORDERS: last_sequence} if last_sequence else {}
            for producer_id, last_sequence in last_sequences.items()
        }

    async def blocked(self, _: Collection[TP]) -> Mapping[TP, str]:
        return {}

    async def topics(self) -> Mapping[str, int]:
        return {ORDERS.topic: 1}

    def lose(self, count: int) -> None:
        """Forget the latest entries, as a replica that lagged."""
        del self.entries[-count:], self._sources[-count:]
        self.name += "'"

    async def identity(self) -> str:
        return "log"

    async def incarnation(self) -> str:
        return self.name

    async def floors(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        return {tp: self.floor for tp in tps if self.floor is not None}

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

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
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
    dead_letter: DeadLetterEntry = nothing_is_refused,
    batch: int = 500,
    poll: float = NEVER,
) -> Relay:
    return kind(database, logs, dead_letter=dead_letter, batch=batch, poll=poll)


@asynccontextmanager
async def running(
    database: Database,
    logs: Logs,
    *,
    dead_letter: DeadLetterEntry = nothing_is_refused,
    batch: int = 500,
    poll: float = NEVER,
) -> AsyncIterator[Relay]:
    relay = new_relay(database, logs, dead_letter=dead_letter, batch=batch, poll=poll)
    stop = asyncio.Event()
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


def new_publisher(
    database: Database, logs: Logs, dead_letter: DeadLetterEntry = nothing_is_refused
) -> Publisher:
    return Publisher(database, logs, dead_letter=dead_letter)


@asynccontextmanager
async def publishing(publisher: Publisher) -> AsyncIterator[None]:
    task = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def commit(
    database: Database, producer: ProducerState, *values: bytes, entries: Sequence[Outgoing] = ()
) -> Staged:
    async with database.transaction() as connection:
        entries = entries or [Outgoing("orders", value) for value in values]
        [staged] = await stage(connection, {producer.id: (producer.last_sequence, entries)})
    return staged


async def all_published(publisher: Publisher) -> None:
    await asyncio.wait_for(publisher.drained(), TIMEOUT)
