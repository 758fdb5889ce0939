"""A table of a million keys, of which a tenth may be in memory, is visited at random.

The worker is stopped without its last commit, and partitions move, and the results stay right.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, cast

import asyncpg
import faust
import pytest
from faust.types import TP

from redfaust.brokers.broker import Outgoing
from redfaust.tables.cached_store import CachedStore
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.integration.test_failures_agents import all_finished

KEYS = 1_000_000
CACHED = 100_000
PARTITIONS = 4
VISITS = 1000
"""Events that are appended in one go."""


class Visitors:
    """One application, and the numbers that it must arrive at."""

    def __init__(self, broker: str, database: str) -> None:
        self._broker, self._database = broker, database
        self._chance = random.Random(11)
        self.expected: Counter[int] = Counter()
        self.most_cached = 0

    def new_app(self) -> faust.App:
        """Counts visits, and fails where a row is not what it was before."""
        app = new_app(self._broker, self._database)
        topic = app.topic("visits", key_type=cast(Any, int))
        # What sends the events places keys by a rule of its own.
        table = app.Table(
            "visited",
            key_type=int,
            value_type=int,
            options={"cached_rows": CACHED},
            use_partitioner=True,
        )
        store = cast(CachedStore, table.data)

        @app.agent(topic)
        async def visit(stream: Any) -> None:
            async for key, number in stream.items():
                # A row begins with its key; what has become of it since is counted.
                table[key] = table.get(key, key) + number
                self.most_cached = max(self.most_cached, len(store.cache), len(store._rows))

        return app

    async def send(self, app: faust.App, count: int) -> None:
        """Append visits of keys at random, some of which have no row yet."""
        consumer = cast(Consumer, app.consumer)
        for start in range(0, count, VISITS):
            keys = [self._chance.randrange(KEYS + KEYS // 10) for _ in range(VISITS)]
            numbers = range(start, start + VISITS)
            await consumer.broker.append(
                [
                    Outgoing("visits", b"%d" % number, b"%d" % key, partition=key % PARTITIONS)
                    for key, number in zip(keys, numbers, strict=True)
                ]
            )
            for key, number in zip(keys, numbers, strict=True):
                self.expected[key] += number


async def fill(database_url: str) -> None:
    """A million rows, written by one statement into the table as its application creates it."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "INSERT INTO test.visited (key, value, partition)"
            f" SELECT n, to_jsonb(n), n % {PARTITIONS} FROM generate_series(0, {KEYS - 1}) AS n"
        )
    finally:
        await connection.close()


async def compare(database_url: str, expected: Counter[int]) -> None:
    """Every row is the number of its key, and what was added to it."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT key, value::bigint FROM test.visited")
    finally:
        await connection.close()
    stored = {row["key"]: row["value"] for row in rows}
    assert len(rows) == len(stored) == len(expected.keys() | set(range(KEYS)))
    assert [key for key, value in stored.items() if value != key + expected[key]] == []


@pytest.mark.long
async def test_a_million_keys(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visitors = Visitors("memory://million", database_url)
    async with running(visitors.new_app()):
        await fill(database_url)

    with monkeypatch.context() as patch:
        patch.setattr(Consumer, "wait_empty", _crash)
        async with running(visitors.new_app()) as app:
            for _ in range(12):
                await visitors.send(app, 10_000)
                await eventually(lambda: all_finished(app, "visits"))
            await visitors.send(app, 5_000)
    assert visitors.most_cached == CACHED

    first, second = visitors.new_app(), visitors.new_app()
    async with running(first):
        await visitors.send(first, 10_000)
        await eventually(lambda: all_finished(first, "visits"))
        await asyncio.wait_for(second.start(), PATIENCE)
        await visitors.send(first, 5_000)
    try:
        await eventually(lambda: TP("visits", 0) in second.consumer.assignment())
        await visitors.send(second, 10_000)
        await eventually(lambda: all_finished(second, "visits"))
    finally:
        await asyncio.wait_for(second.stop(), PATIENCE)

    assert visitors.most_cached == CACHED
    await compare(database_url, visitors.expected)


async def _crash(_: Consumer) -> None:
    """What a worker that is killed does about its last events."""
