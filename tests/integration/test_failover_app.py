"""A whole application while Redis fails over to a replica that lacks the latest entries."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.partitioner import partition_of
from redfaust.brokers.redis import RedisBroker
from redfaust.brokers.redis.keys import stream as stream_key
from redfaust.brokers.redis.offsets import BEGINNING
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.redis_pair import Pair, running_pair
from tests.integration.test_failover import relaying
from tests.integration.test_failures_agents import all_finished
from tests.rights import as_administrator

KEYS = 8
ROUNDS = 15
AN_HOUR = 3_600_000
TOPICS = ("numbers", "seen")


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with running_pair(tmp_path, None) as pair:
        yield pair


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.1)
    monkeypatch.setattr("redfaust.outbox.publisher.RETRY_EVERY", 0.05)
    for module in ("commits", "reading", "rebalance"):
        monkeypatch.setattr(f"redfaust.transports.{module}.RETRY_EVERY", 0.05)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas that do not confirm count as gone at once, and what is lost then has counted."""
    monkeypatch.setattr("redfaust.brokers.redis.replication.GRACE", 0.0)
    monkeypatch.setattr("redfaust.brokers.redis.replication.WAIT", 0.01)


async def put_ahead(url: str) -> None:
    """Let the clock of a server be an hour ahead, as far as its streams tell."""
    async with Redis.from_url(url) as client:
        for topic in TOPICS:
            for partition in range(4):
                stream = f"{{{topic}:{partition}}}"
                future = f"{int(time.time() * 1000) + AN_HOUR}-0"
                await client.execute_command("XSETID", stream, future)  # type: ignore[no-untyped-call]


async def values(url: str, topic: str) -> dict[bytes | None, list[bytes | None]]:
    """By key, in their order."""
    broker = RedisBroker(url, default_partitions=4)
    tps = [TP(topic, partition) for partition in range(4)]
    try:
        logs = await broker.read(dict.fromkeys(tps, BEGINNING), limit=10**6, wait=0)
    finally:
        await broker.close()
    found: dict[bytes | None, list[bytes | None]] = {}
    for log in logs.values():
        for record in log:
            found.setdefault(record.key, []).append(record.value)
    return found


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("clock", ["", "behind"], ids=["same clock", "clock an hour behind"])
async def test_what_an_application_has_applied_is_not_applied_again_and_nothing_is_missing(
    pair: Pair, database_url: str, clock: str
) -> None:
    app = new_app(pair.url, database_url)
    numbers, seen = app.topic("numbers", key_type=str), app.topic("seen", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=list, default=list)

    @app.agent(numbers, concurrency=2)
    async def add(stream: Any) -> None:
        async for key, number in stream.items():
            sums[key] = [*sums[key], number]
            await seen.send(key=key, value=number)

    database = await Database.connect(database_url)
    await migrate(database)
    relay_broker = RedisBroker(pair.url, default_partitions=4)
    sent = 0

    async def send() -> None:
        nonlocal sent
        for number in range(sent, sent + ROUNDS):
            async with Outbox(database).transaction() as tx:
                for key in range(KEYS):
                    await tx.publish("numbers", b"%d" % number, key=f"key-{key}")
        sent += ROUNDS

    async def all_applied() -> bool:
        rows = await database.pool.fetch("SELECT value FROM test.sums")
        return sum(len(row["value"]) for row in rows) >= sent * KEYS

    async def all_seen(url: str) -> bool:
        return sum(map(len, (await values(url, "seen")).values())) >= sent * KEYS

    async with running(app), relaying(database, relay_broker):
        await send()
        await eventually(all_applied)
        await eventually(lambda: all_seen(pair.first.url))
        await pair.cut_off_first()
        if clock:
            await put_ahead(pair.first.url)
        await send()
        await eventually(all_applied)
        lost = sum(map(len, (await values(pair.second.url, "numbers")).values()))
        assert lost < sent * KEYS, "nothing was lost: this would prove nothing"
        await pair.promote_second()
        await send()
        await eventually(all_applied)
        await eventually(lambda: all_seen(pair.second.url))
    expected = list(range(sent))
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT key, value::text FROM test.sums ORDER BY key")
    await connection.close()
    assert [(row["key"], row["value"]) for row in rows] == [
        (f"key-{key}", str(expected)) for key in range(KEYS)
    ]
    said = {
        key: [int(value or b"") for value in v]
        for key, v in (await values(pair.second.url, "seen")).items()
    }
    assert said == {b"key-%d" % key: expected for key in range(KEYS)}
    await relay_broker.close()
    await database.close()


async def test_what_no_replica_has_does_not_count(
    pair: Pair, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app(pair.url, database_url)
    applied = app.Table("applied", key_type=str, value_type=list, default=list)

    @app.agent(app.topic("numbers", key_type=str))
    async def note(stream: Any) -> None:
        async for key, number in stream.items():
            applied[key] = [*applied[key], number]

    database = await Database.connect(database_url)
    log = stream_key(TP("numbers", partition_of(b"key", 4)))

    async def append(url: str, entry_id: str, number: int) -> None:
        async with Redis.from_url(url) as client:
            await client.xadd(log, {"_v": str(number), "_k": "key"}, id=entry_id)

    async def numbers() -> list[int]:
        rows = await database.pool.fetch("SELECT value FROM test.applied")
        return [number for row in rows for number in row["value"]]

    async def are(expected: list[int]) -> bool:
        return await numbers() == expected

    async with running(app):
        await append(pair.first.url, "1-1", 1)
        await eventually(lambda: are([1]))
        await pair.cut_off_first()
        caplog.clear()
        await append(pair.first.url, "2-1", 2)
        await eventually(lambda: "no replica of Redis has confirmed" in caplog.text)
        # The other primary gives the place of what will be lost to something else.
        await append_when_promoted(pair, lambda: append(pair.second.url, "2-1", 3))
        await eventually(lambda: are([1, 3]))
    await database.close()


async def append_when_promoted(pair: Pair, append: Callable[[], Awaitable[None]]) -> None:
    """Append to the second before the application has heard of it."""
    async with Redis.from_url(pair.second.url) as second:
        await second.replicaof("NO", "ONE")
    await append()
    await pair.promote_second()


async def test_what_comes_again_after_everything_was_lost_is_not_applied_again(
    broker_url: str, database_url: str
) -> None:
    database = await Database.connect(database_url)
    await migrate(database)
    relay_broker = RedisBroker(broker_url, default_partitions=4)

    async def work(sent: range, in_all: int) -> list[int]:
        """Send numbers while an application works, and return those that it has ever applied."""
        app = new_app(broker_url, database_url)
        applied = app.Table("applied", key_type=str, value_type=list, default=list)

        @app.agent(app.topic("numbers", key_type=str))
        async def note(stream: Any) -> None:
            async for key, number in stream.items():
                applied[key] = [*applied[key], number]

        async def numbers() -> list[int]:
            rows = await database.pool.fetch("SELECT value FROM test.applied")
            return [number for row in rows for number in row["value"]]

        async def all_arrived() -> bool:
            arrived = await values(broker_url, "numbers")
            return len(arrived.get(b"key", ())) == in_all and await all_finished(app)

        async with running(app), relaying(database, relay_broker):
            for number in sent:
                async with Outbox(database).transaction() as tx:
                    await tx.publish("numbers", b"%d" % number, key="key")
            await eventually(all_arrived)
            return await numbers()

    assert await work(range(5), in_all=5) == list(range(5))
    async with Redis.from_url(as_administrator(broker_url)) as client:
        await client.flushall()
    assert await work(range(5, 10), in_all=10) == list(range(10))
    await relay_broker.close()
    await database.close()
