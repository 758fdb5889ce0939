"""FastStream on Redis Streams: a subscriber in a consumer group for each partition.

It decodes by orjson, which it takes where it is installed, and hands over values without validating
them. It knows no keys but in the value, and has no tables: what is counted is kept in a hash of the
same Redis.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from faststream.redis import RedisBroker, StreamSub
from faststream.redis.parser import BinaryMessageFormatV1

from tests.bench.events import BATCH, PARTITIONS, TOPIC, key, value
from tests.bench.peers.contract import Task
from tests.bench.peers.filling import fill

PACKAGES = ("faststream", "redis", "hiredis", "orjson", "uvloop")
GROUP = "bench"
NUMBERS = range(PARTITIONS)


def new_broker(task: Task) -> RedisBroker:
    """One that logs nothing, and does not validate what was decoded."""
    return RedisBroker(task.url, logger=None, apply_types=False)


def subscription(number: int, *, batch: bool) -> StreamSub[bool]:
    """Of a partition, from its beginning."""
    return StreamSub(
        f"{TOPIC}:{number}",
        group=GROUP,
        consumer="me",
        last_id="0",
        batch=batch,
        max_records=BATCH,
    )


async def run(task: Task, broker: RedisBroker) -> None:
    """Fill the streams, and handle all events."""
    await _fill(task)
    task.begin()
    await broker.start()
    client: Any = broker._connection

    async def is_acknowledged() -> bool:
        pending = [await client.xpending(f"{TOPIC}:{number}", GROUP) for number in NUMBERS]
        return not any(summary["pending"] for summary in pending)

    await task.end_when(is_acknowledged)
    await broker.stop()


async def produce(task: Task) -> None:
    """Send in pipelines, as its documentation has it for many."""
    broker = new_broker(task)
    await broker.connect()
    task.begin()
    for start in range(0, task.events, BATCH):
        numbers = range(start, min(start + BATCH, task.events))
        await publish(broker, TOPIC, ((n % PARTITIONS, _event(n)) for n in numbers))
    task.end()
    await broker.stop()


async def publish(
    broker: RedisBroker, topic: str, events: Iterable[tuple[int, dict[str, Any]]]
) -> None:
    """Send events, each to its partition, in one pipeline."""
    client: Any = broker._connection
    async with client.pipeline(transaction=False) as pipe:
        for number, event in events:
            await broker.publish(event, stream=f"{topic}:{number}", pipeline=pipe)
        await pipe.execute()


def _event(number: int) -> dict[str, Any]:
    return {"key": key(number), **value(number)}


async def _fill(task: Task) -> None:
    """With what FastStream would have sent."""
    entries = []
    for number in range(task.events):
        data = await BinaryMessageFormatV1.encode(
            message=_event(number), reply_to=None, headers=None, correlation_id="0" * 32
        )
        entries.append((f"{TOPIC}:{number % PARTITIONS}", {b"__data__": data}))
    fill(task.url, entries)
