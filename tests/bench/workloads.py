"""The work that is measured, each over the same number of events in the same four partitions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg
import faust
import orjson
import redis.asyncio
from faust.types import TP
from pydantic import BaseModel

from redfaust.brokers.broker import Broker, Outgoing, Record, TopicSpec
from redfaust.postgres.queries import load
from redfaust.transports.by_url import broker_by_url
from tests.bench.events import BATCH, OUTPUT, PARTITIONS, TOPIC, key, twice, value

COMMITTED = 5000
"""Rows of one transaction in the loop of upserts, which is about what a commit has of new keys."""
LOOK_EVERY = 0.002
"""Seconds between two looks whether all that was sent has arrived."""

UPSERT = """
INSERT INTO bench.counts (key, value, partition)
SELECT key, value::jsonb, partition
FROM unnest($1::text[], $2::text[], $3::int[]) AS changed (key, value, partition)
ON CONFLICT (key) DO UPDATE
SET value = excluded.value, partition = excluded.partition, updated_at = now()
"""
"""As asyncpg's users write it. The store's own statement spares asyncpg the arrays."""


class Speed(NamedTuple):
    """How fast it went."""

    events_per_second: float
    cpu: float
    """Microseconds of the measuring process's own time for an event, which say more than the rate
    where other work goes on beside."""


class Beginning(NamedTuple):
    """When something began, by the clock on the wall and by that of this process."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Beginning:
        """It begins."""
        return cls(time.perf_counter(), time.process_time())

    def speed(self, events: int) -> Speed:
        """It is over."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return Speed(events / wall, cpu / events * 1e6)


class Servers(NamedTuple):
    """Where to measure, and how much."""

    broker: str
    database: str
    events: int


async def fill(servers: Servers, *, keys: int) -> None:
    """Leave nothing but the events in the broker, and nothing in the database."""
    await clear(servers)
    broker = broker_by_url(servers.broker, default_partitions=PARTITIONS)
    await broker.open()
    await broker.create_topic(TopicSpec(TOPIC, PARTITIONS))
    for start in range(0, servers.events, BATCH):
        await broker.append([event(n, keys) for n in range(start, start + BATCH)])
    await broker.close()


async def clear(servers: Servers) -> None:
    """Leave nothing anywhere."""
    client = redis.asyncio.Redis.from_url(servers.broker)
    await client.flushall()
    await client.aclose()
    connection = await asyncpg.connect(servers.database)
    await connection.execute("DROP SCHEMA IF EXISTS bench, redfaust CASCADE")
    await connection.execute("CHECKPOINT")  # of what was measured before
    await connection.close()


def event(number: int, keys: int, **more: int) -> Outgoing:
    """One of 200 bytes. Each key comes once before any comes again."""
    return Outgoing(TOPIC, orjson.dumps(value(number) | more), key(number, keys).encode())


class Typed(BaseModel):
    """The value of an event, for who wants it as a model."""

    number: int
    amount: int
    note: str


async def upsert(servers: Servers) -> Speed:
    """What asyncpg does with nothing around it: the upserts of a table that counts new keys."""
    connection = await asyncpg.connect(servers.database)
    for name in ("create_schema", "create_table", "create_index"):
        await connection.execute(_statement(name))
    beginning = Beginning.now()
    for start in range(0, servers.events, COMMITTED):
        numbers = range(start, start + COMMITTED)
        async with connection.transaction():
            await connection.execute(
                UPSERT,
                [f"key-{number}" for number in numbers],
                ["1" for _ in numbers],
                [number % PARTITIONS for number in numbers],
            )
    speed = beginning.speed(servers.events)
    await connection.close()
    return speed


def _statement(name: str) -> str:
    """As the store of the counting table has it."""
    return load("redfaust.tables", name).format(
        schema="bench",
        table="bench.counts",
        key_type="text",
        value_type="jsonb",
        index="counts_partition",
        primary_key="counts_key",
        column="partition",
    )


async def consume(servers: Servers) -> Speed:
    """An agent that looks at each event."""
    app = new_app(servers, "memory://")
    countdown = Countdown(servers.events)
    add_looking_agent(app, countdown)
    return await _speed(app, countdown)


def add_looking_agent(app: faust.App, countdown: Countdown) -> None:
    """The agent that looks at each event."""

    @app.agent(app.topic(TOPIC, key_type=str))
    async def work(stream: Any) -> None:
        async for event in stream:
            countdown.tick(event)


async def consume_typed(servers: Servers) -> Speed:
    """An agent that looks at each event, whose value is a pydantic model."""
    app = new_app(servers, "memory://")
    countdown = Countdown(servers.events)

    @app.agent(app.topic(TOPIC, key_type=str, value_type=Typed))  # type: ignore[arg-type]
    async def work(stream: Any) -> None:
        async for event in stream:
            countdown.tick(vars(event))

    return await _speed(app, countdown)


async def count_in_table(servers: Servers) -> Speed:
    """An agent that counts per key in a table of Postgres, committed with its positions."""
    return await _count_in_table(servers)


async def count_at_least_once(servers: Servers) -> Speed:
    """The same, with the weaker promise."""
    return await _count_in_table(servers, processing_guarantee="at_least_once")


async def _count_in_table(servers: Servers, **settings: Any) -> Speed:
    app = new_app(servers, servers.database, **settings)
    countdown = Countdown(servers.events)
    add_counting_agent(app, countdown)
    return await _speed(app, countdown)


async def count_in_memory(servers: Servers) -> Speed:
    """The same in a table of Faust's, whose every change goes to its changelog topic."""
    app = new_app(servers, "memory://")
    countdown = Countdown(servers.events)
    add_counting_agent(app, countdown)
    return await _speed(app, countdown)


def add_counting_agent(app: faust.App, countdown: Countdown) -> None:
    """The agent that counts per key."""
    counts = app.Table("counts", default=int, key_type=str, value_type=int)

    @app.agent(app.topic(TOPIC, key_type=str))
    async def work(stream: Any) -> None:
        async for name, event in stream.items():
            counts[name] += 1
            countdown.tick(event)


async def transform_once(servers: Servers) -> Speed:
    """An agent that sends an event for each that it gets, in the transaction of its position."""
    return await _transform(servers, servers.database)


async def transform(servers: Servers) -> Speed:
    """The same without a database: what was sent is sent again after a crash."""
    return await _transform(servers, "memory://")


async def _transform(servers: Servers, store: str) -> Speed:
    app = new_app(servers, store)
    countdown = Countdown(servers.events)
    add_sending_agent(app, countdown)
    return await _speed(app, countdown, arriving_in=OUTPUT)


def add_sending_agent(app: faust.App, countdown: Countdown) -> None:
    """The agent that sends an event for each."""
    output = app.topic(OUTPUT, key_type=str)

    @app.agent(app.topic(TOPIC, key_type=str))
    async def work(stream: Any) -> None:
        async for name, event in stream.items():
            await output.send(key=name, value=twice(event))
            countdown.tick(event)


class Countdown:
    """Of the events that are still to come."""

    def __init__(self, events: int) -> None:
        self.events = self._left = events
        self.done = asyncio.Event()

    def tick(self, value: dict[str, Any]) -> None:
        """Note one event, of which at least this was looked at."""
        assert value["note"]
        self._left -= 1
        if not self._left:
            self.done.set()


def new_app(servers: Servers, store: str, **settings: Any) -> faust.App:
    """An application as anybody writes it, in a process that is a worker."""
    return faust.App(
        "bench",
        broker=servers.broker,
        store=store,
        web_enabled=False,
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
        **settings,
    )


class FirstRead:
    """Notes when a broker was first asked for what it had."""

    def __init__(self, broker: Broker) -> None:
        self.at = Beginning.now()
        self._broker, self._read = broker, broker.read
        broker.read = self._note  # type: ignore[method-assign]

    async def _note(
        self, positions: Mapping[TP, int], *, limit: int, wait: float
    ) -> Mapping[TP, Sequence[Record]]:
        self.at = Beginning.now()
        records = await self._read(positions, limit=limit, wait=wait)
        if records:
            self._broker.read = self._read  # type: ignore[method-assign]
        return records


async def _speed(app: faust.App, countdown: Countdown, *, arriving_in: str = "") -> Speed:
    """From the first read until the last event is committed and has arrived."""
    broker: Broker = app.transport.broker  # type: ignore[attr-defined]
    first_read = FirstRead(broker)
    await app.start()
    await countdown.done.wait()
    await asyncio.sleep(0)  # the agent asks for the next event, and so is done with the last
    await app.consumer.maybe_wait_for_commit_to_finish()  # type: ignore[attr-defined]
    await app.consumer.commit()
    while arriving_in and await arrived(broker, arriving_in) < countdown.events:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_EVERY)
    speed = first_read.at.speed(countdown.events)
    await app.stop()
    return speed


async def arrived(broker: Broker, topic: str) -> int:
    """How many entries a topic has."""
    return sum(partition.length for partition in await broker.status("bench", topic))
