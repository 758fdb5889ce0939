"""Entries and last sequences that strangers write, with whatever sequence, while a worker works."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import faust
import pytest
from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.redis import RedisBroker, keys
from redfaust.brokers.redis.servers import servers_by_url
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.processing.dead_letters import DeadLetters
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.outbox_streams import new_relay

pytestmark = pytest.mark.parametrize("any_broker_url", ["valkey", "cluster"], indirect=True)

PARTITIONS = 2
TPS = [TP("orders", number) for number in range(PARTITIONS)]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
async def redis(any_broker_url: str) -> AsyncIterator[Redis]:
    """A client that may write to streams."""
    servers = servers_by_url(any_broker_url)
    await servers.open()
    yield servers.client
    await servers.close()


class Orders:
    """An application that counts orders, an ordered agent in a table, a shared one here."""

    def __init__(self, broker_url: str, database_url: str, database: Database) -> None:
        self._broker_url = broker_url
        self._database = database
        self.shared: Counter[str] = Counter()
        self.app = self._declared(broker_url, database_url)

    def _declared(self, broker_url: str, database_url: str) -> faust.App:
        app = new_app(broker_url, database_url, partitions=PARTITIONS)
        orders = app.topic("orders", key_type=str, value_type=str, value_serializer="raw")
        # Strangers place keys as they like.
        seen = app.Table("seen", key_type=str, value_type=int, default=int, use_partitioner=True)

        @app.agent(orders)
        async def count(stream: Any) -> None:
            async for event in stream.events():
                seen[event.key] += 1

        @app.agent(orders, delivery="shared")
        async def mail(stream: Any) -> None:
            async for event in stream.events():
                self.shared[event.key] += 1

        return app

    async def counted(self) -> Counter[str]:
        rows = await self._database.fetch("SELECT key, value::text::int AS count FROM test.seen")
        return Counter({row["key"]: row["count"] for row in rows})

    async def have_all_come(self, expected: Iterable[str]) -> None:
        """Wait until both agents have seen these orders, each once."""
        wanted = Counter(expected)

        async def have_come() -> bool:
            counted = await self.counted()
            return all(found.keys() >= wanted.keys() for found in (counted, self.shared))

        await eventually(have_come)
        assert await self.counted() == self.shared == wanted
        assert await DeadLetters(self._database).list() == []

    async def place(self, *keys: str) -> None:
        """Publish orders by the outbox."""
        async with Outbox(self._database).transaction() as tx:
            for key in keys:
                await tx.publish("orders", b"x", key=key)

    @asynccontextmanager
    async def relaying(self) -> AsyncIterator[None]:
        broker = RedisBroker(self._broker_url, default_partitions=PARTITIONS)
        stop = asyncio.Event()
        relay = asyncio.create_task(new_relay(self._database, broker, poll=0.1).run(stop))
        try:
            yield
        finally:
            stop.set()
            await relay
            await broker.close()

    async def producer_ids(self, of: str = "%") -> list[str]:
        """The producers of producers whose names are like this."""
        query = "SELECT producer_id FROM redfaust.producers WHERE transactional_id LIKE $1"
        return [row["producer_id"] for row in await self._database.fetch(query, of)]


@pytest.fixture
async def orders(any_broker_url: str, database_url: str, database: Database) -> Orders:
    return Orders(any_broker_url, database_url, database)


def names(prefix: str, count: int = 20) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


async def test_no_sequence_that_a_stranger_writes_stops_or_silences_anything(
    orders: Orders, redis: Redis
) -> None:
    async with running(orders.app), orders.relaying():
        await orders.place(*names("before"))
        await orders.have_all_come(names("before"))
        forged = [f"{producer_id}:99999999999" for producer_id in await orders.producer_ids()]
        forged += ["producer:99999999999999999999", "a\0b:1", "x:0", "x:-5", ":", "", "x:1:2"]
        strangers = []
        for place, source in enumerate(forged):
            for tp in TPS:
                strangers.append(f"stranger-{place}-{tp.partition}")
                fields = {"_v": "junk", "_k": strangers[-1], "_i": source}
                await redis.xadd(keys.stream(tp), fields)  # type: ignore[arg-type]
        await orders.place(*names("after"))
        await orders.have_all_come([*names("before"), *strangers, *names("after")])


async def test_sequences_of_strangers_leave_no_trace_beside_positions(
    orders: Orders, redis: Redis, database: Database
) -> None:
    strangers = names("stranger", 500)
    async with running(orders.app), orders.relaying():
        for key in strangers:
            fields = {"_v": "x", "_k": key, "_i": f"{key}:1"}
            await redis.xadd(keys.stream(TPS[0]), fields)  # type: ignore[arg-type]
        await orders.place(*names("after"))
        await orders.have_all_come([*strangers, *names("after")])
    producer_ids = {
        row["producer_id"]
        for row in await database.fetch(
            "SELECT jsonb_object_keys(applied) AS producer_id FROM redfaust.positions"
        )
    }
    assert producer_ids
    assert producer_ids <= set(await orders.producer_ids())


@pytest.mark.parametrize(
    "last_sequence", ["9007199254740992", "99999999999999999999", "many", "{producer_id}:7:0"]
)
async def test_a_mark_that_a_stranger_writes_loses_nothing_and_raises_no_number(
    orders: Orders, redis: Redis, database: Database, last_sequence: str
) -> None:
    async with running(orders.app):
        async with orders.relaying():
            await orders.place(*names("before"))
            await orders.have_all_come(names("before"))
            [producer_id] = await orders.producer_ids(of="%/relay")
            await redis.hset(
                keys.producers(TPS[1]),
                producer_id,
                last_sequence.format(producer_id=producer_id),
            )
            await orders.place(*names("meanwhile"))
            await orders.have_all_come([*names("before"), *names("meanwhile")])
            await redis.hset(
                keys.producers(TPS[1]),
                producer_id,
                last_sequence.format(producer_id=producer_id),
            )
        async with orders.relaying():
            await orders.place(*names("after"))
            everything = [*names("before"), *names("meanwhile"), *names("after")]
            await orders.have_all_come(everything)
        async with database.transaction() as connection:
            number = await connection.fetchval("SELECT max(last_sequence) FROM redfaust.producers")
        assert number < 2**32


async def test_repeats_at_the_end_of_a_log_count_as_finished(orders: Orders, redis: Redis) -> None:
    async with running(orders.app), orders.relaying():
        await orders.place("ann")
        await orders.have_all_come(["ann"])
        for tp in TPS:
            there: Any = await redis.xrange(keys.stream(tp))
            for _, fields in there:
                await redis.xadd(keys.stream(tp), fields)

        async def nothing_is_left() -> bool:
            consumer: Any = orders.app.consumer
            status = await consumer.broker.status("test", "orders")
            return sum(each.length for each in status) == 2 and not any(each.lag for each in status)

        await eventually(nothing_is_left)
    assert await orders.counted() == Counter(["ann"])
