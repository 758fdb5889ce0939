"""Events without a key that are counted under a name, as Faust's examples of windows do."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import faust
import pytest
from faust.types import TP

from redfaust.brokers.partitioner import partition_of
from redfaust.processing.retries import NO_RETRIES
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.integration.test_failures_agents import all_finished

NAME = "counter"
PARTITIONS = 4
LONG = 1e9
"""Seconds of a window: longer than this test, whenever it is run."""

OWN = partition_of(NAME.encode(), PARTITIONS)
OTHER = (OWN + 1) % PARTITIONS


class Counting:
    """Counts events in a plain table and in windows; waits within those whose value is 'wait'."""

    def __init__(self, broker: str, database: str) -> None:
        self.app: faust.App = new_app(broker, database, partitions=PARTITIONS)
        self.topic = self.app.topic("numbers")
        self.counts = self.app.Table("counts", default=int)
        self.windows = self.app.Table("windows", default=int).tumbling(LONG, expires=LONG)
        self.now = 0
        self.waiting, self.go_on = asyncio.Event(), asyncio.Event()

        @self.app.agent(self.topic, retries=NO_RETRIES)
        async def count(stream: Any) -> None:
            async for value in stream:
                self.counts[NAME] += 1
                self.windows[NAME] += 1
                self.now = self.windows[NAME].now()
                if value == "wait":
                    self.waiting.set()
                    await self.go_on.wait()

    def owned(self) -> set[int]:
        return {tp.partition for tp in self.app.consumer.assignment() if tp.topic == "numbers"}


async def stored(database: str, query: str = "SELECT value::int FROM test.counts") -> int | None:
    connection = await asyncpg.connect(database)
    try:
        found = await connection.fetchval(query)
    finally:
        await connection.close()
    return None if found is None else int(found)


async def given_up(database: str) -> int:
    query = "SELECT count(*) FROM redfaust.dead_letters WHERE error LIKE '%another worker owns%'"
    return await stored(database, query) or 0


async def test_one_worker_counts_all_of_them(memory_url: str, database_url: str) -> None:
    counting = Counting(memory_url, database_url)
    async with running(counting.app):
        for partition in range(PARTITIONS):
            for _ in range(5):
                await counting.topic.send(value="count", partition=partition)
        await eventually(lambda: counting.counts[NAME] == 20)
        await eventually(lambda: all_finished(counting.app))
        assert counting.now == 20
    assert await stored(database_url) == 20
    assert await stored(database_url, "SELECT partition FROM test.counts") == OWN
    again = Counting(memory_url, database_url)
    async with running(again.app):
        await eventually(lambda: again.counts[NAME] == 20)


async def test_a_commit_is_fenced_by_the_partition_of_the_name(
    memory_url: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    counting = Counting(memory_url, database_url)
    async with running(counting.app):
        await eventually(lambda: len(counting.owned()) == PARTITIONS)
        await counting.topic.send(value="wait", partition=OTHER)
        await asyncio.wait_for(counting.waiting.wait(), PATIENCE)
        raised = f"UPDATE redfaust.positions SET epoch = epoch + 1 WHERE partition = {OWN}"
        await stored(database_url, raised)
        counting.waiting.clear()
        counting.go_on.set()
        # It was refused, and the event is processed again once the partitions are taken anew.
        await asyncio.wait_for(counting.waiting.wait(), PATIENCE)
        await eventually(lambda: all_finished(counting.app))
    assert await stored(database_url) == 1
    assert "another worker has taken over partitions" in caplog.text


async def test_it_does_not_count_when_the_name_moves_meanwhile(
    memory_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.transports.commits.DRAIN_FOR", 0.05)
    first, second = (Counting(memory_url, database_url) for _ in range(2))
    async with running(first.app):
        await first.topic.send(value="count", partition=OWN)
        await eventually(lambda: all_finished(first.app))
        await first.topic.send(value="wait", partition=OTHER)
        await asyncio.wait_for(first.waiting.wait(), PATIENCE)
        async with running(second.app):
            await eventually(lambda: len(first.owned()) == len(second.owned()) == 2)
            first.go_on.set()
            second.go_on.set()
            owner = first if OWN in first.owned() else second
            apart = OTHER not in owner.owned()
            await eventually(lambda: all_finished(first.app))
            await eventually(lambda: all_finished(second.app))
            expected = 1 if apart else 2
            assert await stored(database_url) == expected
            assert await given_up(database_url) == (1 if apart else 0)
            assert TP("numbers", OWN) in owner.app.consumer.assignment()
