"""``stream.take``: what is done for a batch is done for all its events, or for none."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import orjson
from faust.types import TP

from redfaust.processing.retries import NO_RETRIES, Retries
from redfaust.transports.by_url import broker_by_url
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished

WORDS = [f"word-{n % 13}" for n in range(300)]


async def fetch(database_url: str, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def sent_to(broker_url: str, topic: str) -> list[bytes | None]:
    broker = broker_by_url(broker_url, default_partitions=4)
    await broker.open()
    bounds = await broker.bounds([TP(topic, partition) for partition in range(4)])
    starts = {tp: first for tp, (first, _) in bounds.items()}
    logs = await broker.read(starts, limit=10_000, wait=0)
    await broker.close()
    return [record.value for log in logs.values() for record in log]


async def test_a_batch_writes_tables_and_sends(any_broker_url: str, database_url: str) -> None:
    app = new_app(any_broker_url, database_url)
    words, sizes = app.topic("words", key_type=str), []
    batches = app.topic("batches")
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(words)
    async def count(stream: Any) -> None:
        async for events in stream.take_events(20, within=0.05):
            for event in events:
                counts[event.key] += 1
            sizes.append(len(events))
            await batches.send(value=len(events))

    async with running(app):
        for word in WORDS:
            await words.send(key=word, value=word)
        await eventually(lambda: sum(sizes) == len(WORDS))
        await eventually(lambda: all_finished(app, "words"))
        await eventually(lambda: _published(any_broker_url, len(sizes)))
        assert max(sizes) <= 20
    rows = await fetch(database_url, "SELECT key, value::int FROM test.counts")
    assert dict(rows) == Counter(WORDS)


async def _published(broker_url: str, count: int) -> bool:
    return len(await sent_to(broker_url, "batches")) == count


async def test_of_a_batch_that_fails_nothing_remains(
    any_broker_url: str, database_url: str
) -> None:
    app = new_app(any_broker_url, database_url)
    failed: list[int] = []
    words, seen = app.topic("words", key_type=str), app.topic("seen", key_type=str)
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(words, retries=Retries(attempts=3, delay=0.01))
    async def count(stream: Any) -> None:
        async for events in stream.take_events(20, within=0.02):
            for event in events:
                counts[event.key] += 1
                await seen.send(key=event.key, value=event.value)
            if len(failed) < 2:
                failed.append(len(events))
                raise ValueError("twice")

    async with running(app):
        for word in WORDS:
            await words.send(key=word, value=word)
        await eventually(lambda: len(failed) == 2)
        await eventually(lambda: all_finished(app, "words"))
        await eventually(lambda: _seen(any_broker_url))
    rows = await fetch(database_url, "SELECT key, value::int FROM test.counts")
    assert dict(rows) == Counter(WORDS)
    assert await fetch(database_url, "SELECT FROM redfaust.dead_letters") == []


async def _seen(broker_url: str) -> bool:
    values = Counter(orjson.loads(value or b"null") for value in await sent_to(broker_url, "seen"))
    assert not values - Counter(WORDS)
    return values == Counter(WORDS)


async def test_a_batch_is_handed_out_before_partitions_move(any_broker_url: str) -> None:
    app, batches = new_app(any_broker_url), []
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers, retries=NO_RETRIES)
    async def work(stream: Any) -> None:
        async for batch in stream.take(100, within=3600):
            batches.append(batch)

    async with running(app):
        for number in range(3):
            await numbers.send(key="key", value=number)
        await eventually(lambda: len(app.consumer.unacked) == 3)
        async with asyncio.timeout(3):
            await app.consumer.wait_empty()
    assert batches == [[0, 1, 2]]
