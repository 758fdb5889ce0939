"""Sending events: measured until all of them are on their streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from redfaust.brokers.broker import Broker, TopicSpec
from redfaust.outbox.outbox import Outbox
from redfaust.outbox.relay import Relay
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.processing.rejected import dead_letter_rejected
from redfaust.transports.by_url import broker_by_url
from tests.bench import workloads
from tests.bench.events import BATCH, PARTITIONS, TOPIC, key, value
from tests.bench.workloads import LOOK_EVERY, Beginning, Servers, Speed, new_app

AT_ONCE = 16
"""Transactions that are under way, as many requests of a web server would have them."""


async def send(servers: Servers) -> Speed:
    """An application that only sends, and waits for what it has sent."""
    app = new_app(servers, "memory://")
    topic = app.topic(TOPIC, key_type=str)
    await app.start_client()
    await topic.maybe_declare()
    beginning = Beginning.now()
    for start in range(0, servers.events, BATCH):
        sent = [
            await topic.send(key=key(number), value=value(number))
            for number in range(start, start + BATCH)
        ]
        await asyncio.gather(*sent)
    speed = beginning.speed(servers.events)
    await app.stop()
    return speed


async def publish_singly(servers: Servers) -> Speed:
    """Transactions of application code, each with one event, several at once."""
    return await _publish(servers, size=1)


async def publish_many(servers: Servers) -> Speed:
    """Transactions of application code, each with a hundred events."""
    return await _publish(servers, size=100)


async def _publish(servers: Servers, *, size: int) -> Speed:
    async with _relayed(servers) as (outbox, broker):
        starts = iter(range(0, servers.events, size))

        async def work() -> None:
            for start in starts:
                async with outbox.transaction() as transaction:
                    for number in range(start, start + size):
                        await transaction.publish(
                            TOPIC, orjson.dumps(value(number)), key=key(number)
                        )

        beginning = Beginning.now()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(work())
        while await workloads.arrived(broker, TOPIC) < servers.events:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        return beginning.speed(servers.events)


@asynccontextmanager
async def _relayed(servers: Servers) -> AsyncIterator[tuple[Outbox, Broker]]:
    """An outbox whose relay works in this process, and where it puts the events."""
    broker = broker_by_url(servers.broker, default_partitions=PARTITIONS)
    await broker.open()
    await broker.create_topic(TopicSpec(TOPIC, PARTITIONS))
    database = await Database.connect(servers.database)
    await migrate(database)
    stop = asyncio.Event()
    relay = Relay(database, broker, dead_letter=dead_letter_rejected(database, "bench"))
    running = asyncio.create_task(relay.run(stop))
    try:
        yield Outbox(database), broker
    finally:
        stop.set()
        await running
        await database.close()
        await broker.close()
