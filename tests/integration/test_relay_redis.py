"""Relays and Redis in less usual company."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.broker import Advance, Place, ProducerBatch, TopicSpec
from redfaust.brokers.redis import RedisBroker, keys
from redfaust.brokers.redis.offsets import BEGINNING
from redfaust.errors import DeadLetterError
from redfaust.outbox.outbox import Outbox, outbox_status
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.processing.dead_letters import DeadLetters, NewDeadLetter
from redfaust.processing.rejected import dead_letter_rejected
from tests.integration.outbox_streams import eventually, new_relay, running
from tests.rights import as_administrator

TIMEOUT = 10.0
ORDERS = TP("orders", 0)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with migrated(database_url) as database:
        yield database


@pytest.fixture
async def broker(any_broker_url: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(any_broker_url, default_partitions=1)
    yield broker
    await broker.close()


@asynccontextmanager
async def migrated(url: str) -> AsyncIterator[Database]:
    database = await Database.connect(url)
    await migrate(database)
    yield database
    await database.close()


async def publish(database: Database, *values: bytes, available_at: datetime | None = None) -> None:
    async with Outbox(database).transaction() as tx:
        for value in values:
            await tx.publish("orders", value, key="o-1", available_at=available_at)


async def relay_everything(database: Database, broker: RedisBroker) -> None:
    stop = asyncio.Event()
    relay = asyncio.create_task(new_relay(database, broker, poll=1.0).run(stop))
    async with asyncio.timeout(TIMEOUT):
        while any(await waiting(database)):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        stop.set()
        await relay


async def waiting(database: Database) -> tuple[int, int]:
    status = await outbox_status(database)
    return status.depth, status.scheduled


async def values(broker: RedisBroker) -> list[bytes | None]:
    logs = await broker.read({ORDERS: BEGINNING}, limit=100, wait=0)
    return [record.value for record in logs.get(ORDERS, [])]


@pytest.fixture
async def other_database(postgres_url: str) -> AsyncIterator[Database]:
    name = f"other_{uuid.uuid4().hex}"
    server = await asyncpg.connect(postgres_url)
    try:
        await server.execute(f"CREATE DATABASE {name}")
        async with migrated(urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))) as other:
            yield other
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await server.close()


async def test_two_databases_share_a_redis(
    database: Database, other_database: Database, broker: RedisBroker
) -> None:
    for turn in range(3):
        await publish(database, b"a%d" % turn, b"A%d" % turn)
        await relay_everything(database, broker)
        await publish(other_database, b"b%d" % turn)
        await relay_everything(other_database, broker)
    assert await values(broker) == [b"a0", b"A0", b"b0", b"a1", b"A1", b"b1", b"a2", b"A2", b"b2"]


async def last_sequence(database: Database, broker: RedisBroker) -> int:
    async with database.transaction() as connection:
        producer_id = await connection.fetchval("SELECT producer_id FROM redfaust.producers")
    return max((await broker.last_sequences([producer_id]))[producer_id].values())


async def test_after_redis_was_wiped_what_is_kept_follows_and_numbers_go_on(
    database: Database, broker: RedisBroker, any_broker_url: str
) -> None:
    await publish(database, b"1", b"2")
    await relay_everything(database, broker)
    before = await last_sequence(database, broker)
    async with Redis.from_url(as_administrator(any_broker_url)) as client:
        await client.flushall()
    await broker.create_topic(TopicSpec("orders", 1))  # as workers do that begin anew
    await publish(database, b"3")
    await relay_everything(database, broker)
    assert await values(broker) == [b"1", b"2", b"3"]
    assert await last_sequence(database, broker) > before


async def test_after_redis_was_wiped_what_is_kept_follows_though_nobody_declares_its_topic(
    database: Database, broker: RedisBroker, any_broker_url: str
) -> None:
    await publish(database, b"1", b"2")
    await relay_everything(database, broker)
    async with Redis.from_url(as_administrator(any_broker_url)) as client:
        await client.flushall()
    await publish(database, b"3")
    await relay_everything(database, broker)
    assert await values(broker) == [b"1", b"2", b"3"]


async def test_what_was_claimed_before_redis_was_wiped_is_published(
    database: Database, broker: RedisBroker, any_broker_url: str
) -> None:
    class Dying(RuntimeError):
        pass

    class Unreached:
        last_sequences = broker.last_sequences
        blocked = broker.blocked
        topics = broker.topics
        floors = broker.floors
        identity = broker.identity
        incarnation = broker.incarnation

        async def append_once(
            self, batches: Sequence[ProducerBatch]
        ) -> Mapping[str, Mapping[TP, Place]]:
            [batch] = batches
            await broker.append_once([batch._replace(entries=batch.entries[:1])])
            raise Dying

    await publish(database, b"1", b"2")
    with pytest.raises(Dying):
        await new_relay(database, Unreached(), poll=1.0).run(asyncio.Event())
    assert await values(broker) == [b"1"]
    async with Redis.from_url(as_administrator(any_broker_url)) as client:
        await client.flushall()
    await relay_everything(database, broker)
    assert await values(broker) == [b"1", b"2"]


async def test_a_row_for_a_partition_that_its_topic_has_not_got_is_a_dead_letter_at_once(
    database: Database, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.02)
    monkeypatch.setattr("redfaust.outbox.batch_cleaner.KEEP_FOR", 0.0)
    await database.pool.execute(
        "INSERT INTO redfaust.outbox (topic, partition, key, value) VALUES"
        " ('orders', NULL, 'o-1', '1'), ('orders', 999, 'o-1', 'far'), ('orders', 0, 'o-1', '2')"
    )

    async def is_over() -> bool:
        return not await database.pool.fetchval(
            "SELECT (SELECT count(*) FROM redfaust.outbox)"
            " + (SELECT count(*) FROM redfaust.batches)"
        )

    keep = dead_letter_rejected(database, "shop")
    async with running(database, broker, dead_letter=keep, poll=0.05):
        await eventually(is_over)
    assert await values(broker) == [b"1", b"2"]
    [letter] = await DeadLetters(database).list(app="shop")
    assert (letter.topic, letter.value) == ("orders", b"far")
    assert "no partition 999" in letter.error


async def test_a_topic_that_was_deleted_does_not_come_back(
    database: Database, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.02)
    await publish(database, b"1")
    async with Outbox(database).transaction() as tx:
        await tx.publish("answers", b"42")
    await relay_everything(database, broker)
    await broker.delete_topics(["answers"])
    monkeypatch.setattr("redfaust.outbox.batch_cleaner.KEEP_FOR", 0.0)

    async def is_over() -> bool:
        return not await database.pool.fetchval("SELECT count(*) FROM redfaust.batches")

    async with running(database, broker, poll=0.05):
        await eventually(is_over)
    assert list(await broker.topics()) == ["orders"]
    assert await values(broker) == [b"1"]


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "read by nobody"])
async def test_what_lies_in_a_partition_that_its_topic_has_not_got_is_appended_no_more(
    database: Database,
    broker: RedisBroker,
    any_broker_url: str,
    monkeypatch: pytest.MonkeyPatch,
    is_read: bool,
) -> None:
    """As of a release that took any number, or of a topic whose partitions were made fewer."""
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.02)
    last = TP("orders", 9)
    await broker.create_topic(TopicSpec("orders", 10))
    if is_read:
        await broker.join("shop", ["orders"], from_start=True)
    await database.pool.execute(
        "INSERT INTO redfaust.outbox (topic, partition, value) VALUES ('orders', 9, 'far')"
    )
    await relay_everything(database, broker)
    _, end = (await broker.bounds([last]))[last]
    if is_read:
        await broker.commit("shop", {last: Advance(end, 1)})
    async with Redis.from_url(any_broker_url) as client:
        await client.hset(keys.TOPICS, "orders", 2)
    monkeypatch.setattr("redfaust.outbox.batch_cleaner.KEEP_FOR", 0.0)

    async def is_over() -> bool:
        return not await database.pool.fetchval("SELECT count(*) FROM redfaust.batches")

    again = RedisBroker(any_broker_url, default_partitions=1)
    await again.open()
    async with running(
        database, again, dead_letter=dead_letter_rejected(database, "shop"), poll=0.05
    ):
        await eventually(is_over)
    await again.close()
    assert (await broker.bounds([last]))[last][1] == end
    letters = await DeadLetters(database).list()
    assert [letter.value for letter in letters] == ([] if is_read else [b"far"])


async def test_a_scheduled_row_is_published_once_when_it_is_due(
    database: Database, broker: RedisBroker
) -> None:
    await publish(database, b"later", available_at=datetime.now(UTC) + timedelta(seconds=0.4))
    await publish(database, b"now")
    await relay_everything(database, broker)
    assert await values(broker) == [b"now", b"later"]


async def test_a_dead_letter_is_replayed_once(database: Database, broker: RedisBroker) -> None:
    letters = DeadLetters(database)
    headers = (("b", b"\xff"), ("a", b""), ("b", b"2"))
    number = await letters.add(
        NewDeadLetter("shop", None, "orders", 0, 7, b"o-1", b"\xff", headers, LookupError("no"), 1)
    )
    await publish(database, b"before")
    await letters.replay([number])
    await publish(database, b"behind")
    await relay_everything(database, broker)
    logs = await broker.read({ORDERS: BEGINNING}, limit=100, wait=0)
    assert [record.value for record in logs[ORDERS]] == [b"before", b"\xff", b"behind"]
    assert logs[ORDERS][1].headers == (*headers, ("redfaust-replay-of", b"%d" % number))


async def test_a_dead_letter_that_the_outbox_cannot_take_stays_and_says_why(
    database: Database,
) -> None:
    letters = DeadLetters(database)
    number = await letters.add(
        NewDeadLetter("shop", None, "or\nders", 0, 7, b"o-1", b"1", (), LookupError("no"), 1)
    )
    with pytest.raises(DeadLetterError, match=r"\(outbox_topic\).*publish what is in it"):
        await letters.replay([number])
    assert await letters.waiting() == [number]
