"""Windows that expire: closed and deleted once, whatever happens to their worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from connectors.tables.store import PostgresStore
from tests.integration.faust_apps import eventually, new_app, running

PARTITIONS = 2


class Clicks:
    """An application that counts clicks in windows of a second, which expire after one."""

    def __init__(self, broker: str, store: str, *, closes: bool = True) -> None:
        self.closed: list[tuple[str, int]] = []
        self.counted = 0
        self.app = new_app(broker, store, partitions=PARTITIONS)
        self.app.conf.table_cleanup_interval = 0.1 if closes else 3600.0
        number: Any = int
        self.clicks = self.app.topic("clicks", key_type=str, value_type=number)
        self.ends = self.app.topic("ends", key_type=str, value_type=number)
        self.table: Any = self.app.Table(
            "counts", key_type=str, value_type=int, default=int, on_window_close=self._close
        )
        self.counts = self.table.tumbling(1.0, expires=1.0, key_index=False)
        self.heard: list[tuple[str, int]] = []
        self.fails = False

        @self.app.agent(self.clicks)
        async def count(stream: Any) -> None:
            async for key, value in stream.items():
                self.counts[key] += value
                self.counted += 1

        @self.app.agent(self.ends)
        async def hear(stream: Any) -> None:
            async for key, value in stream.items():
                self.heard.append((key, value))

    async def _close(self, key: Any, value: int) -> None:
        if self.fails:
            raise RuntimeError("the application fails")
        self.closed.append((key[0], value))
        await self.ends.send(key=key[0], value=value)

    @property
    def store(self) -> PostgresStore:
        store: Any = self.table.data
        assert isinstance(store, PostgresStore)
        return store


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def rows(sql: asyncpg.Connection[asyncpg.Record]) -> int:
    count: int = await sql.fetchval("SELECT count(*) FROM test.counts")
    return count


async def test_an_expired_window_is_closed_and_deleted_without_another_event(
    any_broker_url: str, database_url: str, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    clicks = Clicks(any_broker_url, database_url)
    async with running(clicks.app):
        for _ in range(3):
            await clicks.clicks.send(key="ann", value=1)
        await eventually(lambda: sum(value for _, value in clicks.heard) == 3)

        async def is_gone() -> bool:
            return await rows(sql) == 0

        await eventually(is_gone)
    assert sorted(clicks.heard) == sorted(clicks.closed)
    assert len(clicks.store) == 0


async def test_windows_of_an_earlier_life_are_closed_once(
    any_broker_url: str, database_url: str, sql: asyncpg.Connection[asyncpg.Record]
) -> None:
    first = Clicks(any_broker_url, database_url, closes=False)
    async with running(first.app):
        for key in ("ann", "bob", "eve"):
            await first.clicks.send(key=key, value=5)
        await eventually(lambda: first.counted == 3)
    assert first.closed == []
    assert await rows(sql) == 3

    second = Clicks(any_broker_url, database_url)
    async with running(second.app):
        await eventually(lambda: len(second.heard) == 3)
    assert sorted(second.closed) == [("ann", 5), ("bob", 5), ("eve", 5)]
    assert await rows(sql) == 0

    third = Clicks(any_broker_url, database_url)
    async with running(third.app):
        await third.clicks.send(key="ann", value=1)
        await eventually(lambda: third.heard == [("ann", 1)])
    assert third.closed == [("ann", 1)]


async def test_a_window_whose_closing_fails_is_closed_later(
    any_broker_url: str,
    database_url: str,
    sql: asyncpg.Connection[asyncpg.Record],
    caplog: pytest.LogCaptureFixture,
) -> None:
    clicks = Clicks(any_broker_url, database_url)
    clicks.fails = True
    async with running(clicks.app):
        await clicks.clicks.send(key="ann", value=2)
        await eventually(lambda: "Closing the window" in caplog.text)
        assert await rows(sql) == 1
        clicks.fails = False
        await eventually(lambda: clicks.heard == [("ann", 2)])
    assert await rows(sql) == 0


async def test_a_window_is_noted_once_however_many_events_it_has(
    any_broker_url: str, database_url: str
) -> None:
    clicks = Clicks(any_broker_url, database_url, closes=False)
    async with running(clicks.app):
        for _ in range(200):
            await clicks.clicks.send(key="ann", value=1)
        await eventually(lambda: clicks.counted == 200)
        expiry = clicks.store.expiry
        assert expiry is not None
        assert len(expiry._ends) == len(expiry._keys) <= 3
        assert not clicks.table._partition_timestamps


async def test_what_is_closed_is_committed_with_what_the_closing_sends(
    any_broker_url: str,
    database_url: str,
    sql: asyncpg.Connection[asyncpg.Record],
) -> None:
    """The first commit of the closing is refused: neither the deletion nor the event happens, and
    both do at the second attempt."""
    clicks = Clicks(any_broker_url, database_url, closes=False)
    async with running(clicks.app):
        await clicks.clicks.send(key="ann", value=4)
        await eventually(lambda: clicks.counted == 1)

        async def is_there() -> bool:
            return await rows(sql) == 1

        await eventually(is_there)
        await sql.execute("UPDATE redfaust.positions SET epoch = epoch + 1")

        async def has_closed() -> bool:
            await clicks.table._del_old_keys()
            return clicks.closed == [("ann", 4)]

        await eventually(has_closed)
    assert await rows(sql) == 1
    assert clicks.heard == []

    heir = Clicks(any_broker_url, database_url)
    async with running(heir.app):
        await eventually(lambda: heir.heard == [("ann", 4)])
    assert await rows(sql) == 0
