from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from connectors.errors import BrokerUnavailable, DatabaseUnavailable
from connectors.outbox.outbox import Outbox, outbox_status
from connectors.outbox.relay import Append, Relay
from connectors.postgres.database import Database
from connectors.postgres.migrate import migrate_connectors
from connectors.transports.broker import Outgoing

TIMEOUT = 10.0
NEVER = 600.0
"""A poll that no test waits for: what arrives was notified, or due."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url)
    await migrate_connectors(database)
    yield database
    await database.close()


class Stream:
    """Takes what a relay appends."""

    def __init__(self) -> None:
        self.entries: list[Outgoing] = []
        self.batches: list[int] = []
        self._grown = asyncio.Condition()

    async def append(self, entries: Sequence[Outgoing]) -> None:
        async with self._grown:
            self.entries += entries
            self.batches.append(len(entries))
            self._grown.notify_all()

    async def reaches(self, length: int) -> list[bytes | None]:
        async with asyncio.timeout(TIMEOUT), self._grown:
            await self._grown.wait_for(lambda: len(self.entries) >= length)
        return [entry.value for entry in self.entries]


@asynccontextmanager
async def running(
    database: Database, append: Append, *, batch: int = 500, poll: float = NEVER
) -> AsyncIterator[Relay]:
    relay, stop = Relay(database, append, batch=batch, poll=poll), asyncio.Event()
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


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
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


async def test_committed_rows_reach_the_broker_in_order_and_leave(database: Database) -> None:
    async with Outbox(database).transaction() as tx:
        await tx.publish("orders", b"1", key="o-1", headers={"type": "OrderCreated"})
        await tx.publish("users", None, key=b"\xff")
        await tx.publish("orders", b"3")
    stream = Stream()
    async with running(database, stream.append) as relay:
        await stream.reaches(3)
        await drained(database)
        assert (relay.active, relay.published, relay.batches) == (True, 3, 1)
    assert stream.entries == [
        Outgoing("orders", b"1", b"o-1", (("type", b"OrderCreated"),)),
        Outgoing("users", None, b"\xff"),
        Outgoing("orders", b"3"),
    ]
    assert not relay.active


async def test_a_notification_wakes_the_relay(database: Database) -> None:
    stream = Stream()
    async with running(database, stream.append) as relay:
        await is_active(relay)
        await publish(database, b"1")
        await stream.reaches(1)
        async with database.transaction() as connection:
            await connection.execute("SELECT redfaust.publish('orders', 'o-1', '2')")
        assert await stream.reaches(2) == [b"1", b"2"]


async def test_polling_finds_what_was_not_notified(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("ALTER TABLE redfaust.outbox DISABLE TRIGGER announce")
    stream = Stream()
    async with running(database, stream.append, poll=0.05) as relay:
        await is_active(relay)
        await publish(database, b"1")
        await stream.reaches(1)


async def test_what_is_rolled_back_never_arrives(database: Database) -> None:
    async def roll_back() -> None:
        async with Outbox(database).transaction() as tx:
            await tx.publish("orders", b"never")
            raise LookupError

    stream = Stream()
    async with running(database, stream.append):
        with pytest.raises(LookupError):
            await roll_back()
        await publish(database, b"1")
        assert await stream.reaches(1) == [b"1"]


async def test_a_long_outbox_goes_in_batches(database: Database) -> None:
    await publish(database, *(b"%d" % n for n in range(7)))
    stream = Stream()
    async with running(database, stream.append, batch=3):
        assert await stream.reaches(7) == [b"%d" % n for n in range(7)]
    assert stream.batches == [3, 3, 1]


async def test_a_scheduled_row_goes_when_it_is_due(database: Database) -> None:
    due = datetime.now(UTC) + timedelta(seconds=0.6)
    stream = Stream()
    async with running(database, stream.append):
        await publish(database, b"later", available_at=due)
        await publish(database, b"now")
        assert await stream.reaches(1) == [b"now"]
        assert await stream.reaches(2) == [b"now", b"later"]
        assert datetime.now(UTC) >= due


async def test_rows_that_came_due_go_in_the_order_of_their_times(database: Database) -> None:
    async with database.transaction() as connection:  # as if no relay had run for a minute
        await connection.execute(
            "INSERT INTO redfaust.outbox (topic, value, available_at) VALUES "
            "('orders', 'third', NULL), "
            "('orders', 'second', now() - interval '1 s'), "
            "('orders', 'first', now() - interval '1 min')"
        )
    stream = Stream()
    async with running(database, stream.append):
        assert await stream.reaches(3) == [b"first", b"second", b"third"]


async def test_a_row_with_strange_headers_stops_nobody(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO redfaust.outbox (topic, value, headers) VALUES "
            """('orders', '1', '[["a", "no base64!"], 7]'), ('orders', '2', '{"n": 1}')"""
        )
    stream = Stream()
    async with running(database, stream.append):
        assert await stream.reaches(2) == [b"1", b"2"]


async def test_one_relay_publishes_and_the_others_are_spares(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.outbox.relay.SPARE_POLL", 0.05)
    first, second = Stream(), Stream()
    async with running(database, second.append) as spare:
        async with running(database, first.append) as other:
            await is_active(spare, other)
            await publish(database, b"1", b"2")
            await drained(database)
            await asyncio.sleep(0.2)  # several attempts of the spare
            assert [spare.active, other.active].count(True) == 1
            assert len(first.entries) + len(second.entries) == 2
        await is_active(spare)
        await publish(database, b"3")
        await drained(database)
        assert second.entries[-1].value == b"3"


async def test_a_spare_succeeds_a_relay_whose_session_dies(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.outbox.relay.SPARE_POLL", 0.05)
    old, new = Stream(), Stream()
    relay, stop = Relay(database, old.append, poll=NEVER), asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    await is_active(relay)
    async with running(database, new.append) as spare:
        assert await kill_session_of(database, "min(available_at)") == 1
        with pytest.raises(DatabaseUnavailable):
            await asyncio.wait_for(task, TIMEOUT)
        assert not relay.active
        await is_active(spare)
        await publish(database, b"1")
        assert await new.reaches(1) == [b"1"]
    assert old.entries == []


async def test_a_broker_that_is_away_costs_nothing(database: Database) -> None:
    async def away(entries: Sequence[Outgoing]) -> None:
        raise BrokerUnavailable("away")

    await publish(database, b"1", b"2")
    with pytest.raises(BrokerUnavailable):
        await asyncio.wait_for(Relay(database, away).run(asyncio.Event()), TIMEOUT)
    assert (await outbox_status(database)).depth == 2

    stream = Stream()
    async with running(database, stream.append):
        assert await stream.reaches(2) == [b"1", b"2"]


async def test_a_relay_that_dies_before_sweeping_publishes_again(database: Database) -> None:
    stream = Stream()

    async def append_and_lose_the_session(entries: Sequence[Outgoing]) -> None:
        await stream.append(entries)
        assert await kill_session_of(database, "UNION ALL") == 1

    await publish(database, b"1")
    relay = Relay(database, append_and_lose_the_session)
    with pytest.raises(DatabaseUnavailable):
        await asyncio.wait_for(relay.run(asyncio.Event()), TIMEOUT)
    async with running(database, stream.append):
        assert await stream.reaches(2) == [b"1", b"1"]
        await drained(database)


async def test_a_batch_that_has_begun_is_finished_before_stopping(database: Database) -> None:
    begun, finish, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def append(entries: Sequence[Outgoing]) -> None:
        begun.set()
        await finish.wait()

    await publish(database, b"1", b"2")
    task = asyncio.create_task(Relay(database, append, batch=1).run(stop))
    await asyncio.wait_for(begun.wait(), TIMEOUT)
    stop.set()
    finish.set()
    await asyncio.wait_for(task, TIMEOUT)
    assert (await outbox_status(database)).depth == 1
