"""A loop around redis-py with nothing around it: as fast as a consumer in Python gets.

It keeps what it counts in a hash of the same Redis, changed with the acknowledgement of the batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import redis.asyncio

from tests.bench.events import BATCH, OUTPUT, PARTITIONS, TOPIC, key, twice, value
from tests.bench.peers.contract import Task, Work
from tests.bench.peers.filling import fill

PACKAGES = ("redis", "hiredis", "orjson")
GROUP = "bare"
STREAMS = {f"{TOPIC}:{number}".encode(): b">" for number in range(PARTITIONS)}
NAMES = list(STREAMS)
OUTPUTS = dict(zip(STREAMS, (f"{OUTPUT}:{n}".encode() for n in range(PARTITIONS)), strict=True))

Batch = tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]


async def produce(task: Task) -> None:
    """Send in pipelines."""
    client = connect(task)
    await client.ping()
    task.begin()
    await send(client, task.events)
    task.end()
    await client.aclose()


async def consume(task: Task) -> None:
    """Decode and acknowledge."""
    client = await filled(task)
    async for stream, entries in batches(task, client):
        for _, fields in entries:
            task.tick(orjson.loads(fields[b"value"]))
        await client.xack(stream, GROUP, *(entry_id for entry_id, _ in entries))
    task.end()
    await client.aclose()


async def count(task: Task) -> None:
    """Count per key."""
    client = await filled(task)
    async for stream, entries in batches(task, client):
        counts: Counter[bytes] = Counter()
        for _, fields in entries:
            task.tick(orjson.loads(fields[b"value"]))
            counts[fields[b"key"]] += 1
        pipe = client.pipeline(transaction=True)
        for name, events in counts.items():
            pipe.hincrby("counts", name, events)
        pipe.xack(stream, GROUP, *(entry_id for entry_id, _ in entries))
        await pipe.execute()
    task.end()
    await client.aclose()


async def transform(task: Task) -> None:
    """Send an event for each."""
    client = await filled(task)
    async for stream, entries in batches(task, client):
        pipe = client.pipeline(transaction=True)
        for _, fields in entries:
            event = orjson.loads(fields[b"value"])
            task.tick(event)
            sent = {b"key": fields[b"key"], b"value": orjson.dumps(twice(event))}
            pipe.xadd(OUTPUTS[stream], sent)
        pipe.xack(stream, GROUP, *(entry_id for entry_id, _ in entries))
        await pipe.execute()
    task.end()
    await client.aclose()


WORKS: dict[str, Work] = {
    "consume": consume,
    "count": count,
    "transform": transform,
    "produce": produce,
}


def connect(task: Task) -> Any:
    """A client. RESP2 is what hiredis parses fastest."""
    return redis.asyncio.Redis.from_url(task.url, protocol=2)


async def filled(task: Task) -> Any:
    """A client of a broker that has the events, and a group at their beginning."""
    numbers = range(task.events)
    fill(task.url, ((NAMES[number % PARTITIONS].decode(), entry(number)) for number in numbers))
    client = connect(task)
    for stream in STREAMS:
        await client.xgroup_create(stream, GROUP, id="0")
    return client


async def send(client: Any, events: int) -> None:
    """Append the events, by pipelines."""
    for start in range(0, events, BATCH):
        pipe = client.pipeline(transaction=False)
        for number in range(start, min(start + BATCH, events)):
            pipe.xadd(NAMES[number % PARTITIONS], entry(number))
        await pipe.execute()


def entry(number: int) -> dict[bytes, bytes]:
    """Of the entry that is an event."""
    return {b"key": key(number).encode(), b"value": orjson.dumps(value(number))}


async def batches(task: Task, client: Any) -> AsyncIterator[Batch]:
    """What is read, up to a thousand of each stream at a time."""
    task.begin()
    while not task.done.is_set():
        for batch in await client.xreadgroup(GROUP, "me", STREAMS, count=BATCH):
            yield batch
