"""The work that is measured, each the same events over the same four partitions."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import faust
import orjson
import redis.asyncio

from connectors.transports.broker import Outgoing, TopicSpec
from connectors.transports.brokers import broker_by_url

TOPIC = "bench"
PARTITIONS = 4
KEYS = 1000
BATCH = 1000


class Servers(NamedTuple):
    """Where to measure, and how much."""

    broker: str
    database: str
    events: int


async def fill(servers: Servers) -> None:
    """Leave nothing but the events in the broker."""
    client = redis.asyncio.Redis.from_url(servers.broker)
    await client.flushall()
    await client.aclose()
    broker = broker_by_url(servers.broker, default_partitions=PARTITIONS)
    await broker.open()
    await broker.create_topic(TopicSpec(TOPIC, PARTITIONS))
    for start in range(0, servers.events, BATCH):
        await broker.append([_event(n) for n in range(start, start + BATCH)])
    await broker.close()


def _event(number: int) -> Outgoing:
    value = {"number": number, "amount": number * 7, "note": "x" * 150}
    return Outgoing(TOPIC, orjson.dumps(value), b"key-%d" % (number % KEYS))


async def bare_loop(servers: Servers) -> float:
    """What redis-py does with nothing around it: the ceiling to compare with."""
    client: Any = redis.asyncio.Redis.from_url(servers.broker, protocol=2)
    streams = {f"{{{TOPIC}:{n}}}": ">" for n in range(PARTITIONS)}
    for stream in streams:
        await client.xgroup_create(stream, "bare", id="0")
    done = 0
    started = time.perf_counter()
    while done < servers.events:
        for stream, entries in await client.xreadgroup("bare", "me", streams, count=BATCH):
            for _, fields in entries:
                orjson.loads(fields[b"_v"])
            done += len(entries)
            await client.xack(stream, "bare", *(entry_id for entry_id, _ in entries))
    elapsed = time.perf_counter() - started
    await client.aclose()
    return servers.events / elapsed


async def consume(servers: Servers) -> float:
    """An agent that looks at each event."""
    app = _app(servers, "memory://")
    topic = app.topic(TOPIC, key_type=str)
    clock = Clock(servers.events)

    @app.agent(topic)
    async def work(stream: Any) -> None:
        async for value in stream:
            clock.tick(value)

    return await _rate(app, clock)


async def count_in_table(servers: Servers) -> float:
    """An agent that counts per key in a table of Postgres, committed with its positions."""
    app = _app(servers, servers.database)
    topic = app.topic(TOPIC, key_type=str)
    counts = app.Table("counts", default=int, key_type=str, value_type=int)
    clock = Clock(servers.events)

    @app.agent(topic)
    async def work(stream: Any) -> None:
        async for key, value in stream.items():
            counts[key] += 1
            clock.tick(value)

    return await _rate(app, clock)


class Clock:
    """Runs from the first event to the last."""

    def __init__(self, events: int) -> None:
        self._events = self._left = events
        self.started = 0.0
        self.ended = 0.0
        self.done = asyncio.Event()

    def tick(self, value: dict[str, Any]) -> None:
        """Note one event."""
        assert value["note"]
        self.started = self.started or time.perf_counter()
        self._left -= 1
        if not self._left:
            self.ended = time.perf_counter()
            self.done.set()

    @property
    def events_per_second(self) -> float:
        """Known when ``done`` is set."""
        return self._events / (self.ended - self.started)


def _app(servers: Servers, store: str) -> faust.App:
    return faust.App(
        "bench",
        broker=servers.broker,
        store=store,
        web_enabled=False,
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
    )


async def _rate(app: faust.App, clock: Clock) -> float:
    await app.start()
    await clock.done.wait()
    await app.stop()
    return clock.events_per_second
