"""Windows that expire are closed and deleted once, whatever happens to their workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import faust
import pytest

from redfaust.processing.retries import NO_RETRIES
from redfaust.tables.expiry import ExpiringStore
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.rights import as_owner

KEYS = [f"key-{number}" for number in range(20)]
SIZE = 10.0
EXPIRES = 60.0
NEVER = 3600.0
"""Seconds between two looks for expired windows of a worker that is to find none."""


async def fetch(database_url: str, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


class Counting:
    """Counts numbers in windows, and adds those up that were closed, in a table and by events."""

    def __init__(self, broker: str, store: str, *, look_every: float = 0.05) -> None:
        self.app: faust.App = new_app(broker, store)
        self.app.conf.table_cleanup_interval = look_every
        self.numbers = self.app.topic("numbers", key_type=str)
        self.totals = self.app.topic("totals", key_type=str)
        self.closed: Any = self.app.Table("closed", key_type=str, default=int)
        self.announced: Any = self.app.Table("announced", key_type=str, default=int)
        self.calls: list[tuple[str, int]] = []
        self.windows: Any = self.app.Table(
            "windows", key_type=str, default=int, on_window_close=self.close
        ).tumbling(SIZE, expires=EXPIRES)

        @self.app.agent(self.numbers, retries=NO_RETRIES)
        async def count(stream: Any) -> None:
            async for event in stream.events():
                self.windows[event.key] += event.value

        @self.app.agent(self.totals)
        async def announce(stream: Any) -> None:
            async for key, number in stream.items():
                self.announced[key] += number

    async def close(self, key: Any, value: int) -> None:
        self.calls.append((key[0], value))
        self.closed[key[0]] += value
        await self.totals.send(key=key[0], value=value)

    async def send(self, number: int, keys: Sequence[str] = KEYS, *, age: float = 100.0) -> None:
        """Send a number under each key, of so many seconds ago."""
        at = time.time() - age
        sent = [await self.numbers.send(key=key, value=number, timestamp=at) for key in keys]
        await asyncio.gather(*sent)

    def owned(self) -> int:
        return sum(tp.topic == "numbers" for tp in self.app.consumer.assignment())


async def rows(database_url: str, table: str = "windows") -> int:
    [(count,)] = await fetch(database_url, f"SELECT count(*)::int FROM test.{table}")
    return int(count)


async def totals(database_url: str, table: str) -> dict[str, int]:
    return dict(await fetch(database_url, f"SELECT key, value::int FROM test.{table}"))


async def counted(counting: Counting, number: int, *, age: float = 100.0) -> None:
    """Start a worker that closes no window, and have it count."""
    async with running(counting.app):
        await counting.send(number, age=age)
        await eventually(lambda: all_finished(counting.app))


async def test_windows_are_closed_and_deleted_once_after_a_restart(
    memory_url: str, database_url: str
) -> None:
    """Without an event: nothing more comes."""
    await counted(Counting(memory_url, database_url, look_every=NEVER), 3)
    assert await rows(database_url) == len(KEYS)
    for _ in range(2):
        again = Counting(memory_url, database_url)
        async with running(again.app):
            await eventually(lambda: announced(database_url, 3))
    assert await rows(database_url) == 0
    assert await totals(database_url, "closed") == dict.fromkeys(KEYS, 3)


async def announced(database_url: str, number: int) -> bool:
    no_rows = await rows(database_url) == 0
    return no_rows and await totals(database_url, "announced") == dict.fromkeys(KEYS, number)


async def test_windows_that_have_not_expired_stay(memory_url: str, database_url: str) -> None:
    await counted(Counting(memory_url, database_url, look_every=NEVER), 3, age=0.0)
    again = Counting(memory_url, database_url)
    async with running(again.app):
        await again.send(4)
        await eventually(lambda: totals_are(database_url, 4))
        assert dict(again.calls) == dict.fromkeys(KEYS, 4)
    assert await rows(database_url) == len(KEYS)


async def totals_are(database_url: str, number: int) -> bool:
    return await totals(database_url, "announced") == dict.fromkeys(KEYS, number)


async def test_a_window_that_is_closed_by_who_lost_its_partition_is_closed_again_by_the_heir(
    memory_url: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And counts once."""
    await counted(Counting(memory_url, database_url, look_every=NEVER), 3)
    again, fenced = Counting(memory_url, database_url), asyncio.Event()
    close = again.close

    async def fence_first(key: Any, value: int) -> None:
        if not fenced.is_set():
            fenced.set()
            await fetch(database_url, "UPDATE redfaust.positions SET epoch = epoch + 1")
        await close(key, value)

    again.windows.table._on_window_close = fence_first
    async with running(again.app):
        await eventually(lambda: announced(database_url, 3))
    assert "another worker has taken over partitions" in caplog.text
    assert len(again.calls) > len(KEYS)
    assert await totals(database_url, "closed") == dict.fromkeys(KEYS, 3)


async def test_each_of_two_workers_closes_the_windows_of_its_partitions(
    memory_url: str, database_url: str
) -> None:
    first = Counting(memory_url, database_url, look_every=0.5)
    async with running(first.app):
        await first.send(1)
        second = Counting(memory_url, database_url, look_every=0.5)
        async with running(second.app):
            await eventually(lambda: first.owned() == second.owned() == 2)
            await first.send(2)
            await eventually(lambda: announced(database_url, 3))
    assert await totals(database_url, "closed") == dict.fromkeys(KEYS, 3)


async def test_a_window_that_cannot_be_closed_is_kept_and_the_others_are_closed(
    memory_url: str, database_url: str
) -> None:
    counting = Counting(memory_url, database_url)
    close, mended = counting.close, asyncio.Event()

    async def fail(key: Any, value: int) -> None:
        await close(key, value)
        if key[0] == KEYS[0] and not mended.is_set():
            raise ValueError(key)
        if key[0] == KEYS[1] and not mended.is_set():
            counting.closed[key[0]] = "a" * 5

    counting.windows.table._on_window_close = fail
    await fetch(as_owner(database_url), "CREATE SCHEMA test")
    await fetch(
        as_owner(database_url),
        "CREATE TABLE test.closed (key text PRIMARY KEY, value jsonb NOT NULL CHECK "
        "(jsonb_typeof(value) = 'number'), partition int NOT NULL, updated_at timestamptz "
        "NOT NULL DEFAULT now())",
    )
    async with running(counting.app):
        await counting.send(3)
        await eventually(lambda: left(database_url, KEYS[:2]))
        assert await totals(database_url, "closed") == dict.fromkeys(KEYS[2:], 3)
        mended.set()
        await eventually(lambda: announced(database_url, 3))
    assert await totals(database_url, "closed") == dict.fromkeys(KEYS, 3)


async def left(database_url: str, keys: Sequence[str]) -> bool:
    found = await fetch(database_url, "SELECT key->>0 FROM test.windows ORDER BY 1")
    return [key for (key,) in found] == list(keys)


async def test_a_window_has_one_timer_however_often_it_is_written(
    memory_url: str, database_url: str
) -> None:
    counting = Counting(memory_url, database_url, look_every=NEVER)
    async with running(counting.app):
        for _ in range(20):
            await counting.send(1, age=0.0)
        await eventually(lambda: all_finished(counting.app))
        store = counting.windows.table.data
        assert isinstance(store, ExpiringStore)
        assert len(store.expiry) <= 2 * 4  # the minute may have turned meanwhile
        assert not counting.windows.table._partition_timestamps


async def test_windows_with_a_changelog_are_closed_after_a_restart(memory_url: str) -> None:
    await counted(Counting(memory_url, "memory://", look_every=NEVER), 3)
    again = Counting(memory_url, "memory://")
    again.windows.table._on_window_close = lambda key, value: again.calls.append((key[0], value))
    async with running(again.app):
        await eventually(lambda: len(again.calls) == len(KEYS))
    assert dict(again.calls) == dict.fromkeys(KEYS, 3)
    third = Counting(memory_url, "memory://", look_every=NEVER)
    async with running(third.app):
        assert len(third.windows.table) == 0
