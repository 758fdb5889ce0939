"""taskiq on Redis Streams: an event is a task.

Messages are decoded by orjson, and parameters are not validated. It knows neither keys nor
partitions, so there is one stream. What is counted is kept in a hash of the same Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
import uvloop
from taskiq import TaskiqMessage
from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisStreamBroker

from tests.bench.events import BATCH, OUTPUT, TOPIC, key, twice, value
from tests.bench.peers.contract import Task, serve
from tests.bench.peers.filling import fill

PACKAGES = ("taskiq", "taskiq-redis", "redis", "hiredis", "orjson", "uvloop")
GROUP = "taskiq"

Handle = Callable[[str, dict[str, Any]], Awaitable[None]]


class Broker(RedisStreamBroker):
    """Notes when it first reads."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.url, queue_name=TOPIC, consumer_id="0", xread_count=BATCH)
        self.serializer = ORJSONSerializer()
        self._task = task

    async def listen(self) -> Any:
        """From the first message on."""
        self._task.begin()
        async for message in super().listen():
            yield message


async def produce(task: Task) -> None:
    """Send, a hundred at a time."""
    broker = Broker(task)
    work = broker.task("work")(_nothing)
    await broker.startup()
    task.begin()
    await _send(task, work)
    task.end()
    await broker.shutdown()


async def consume(task: Task) -> None:
    """Look at each event."""
    await _run(task, Broker(task), _nothing)


async def count(task: Task) -> None:
    """Count per key."""
    client = redis.asyncio.Redis.from_url(task.url)

    async def handle(name: str, event: dict[str, Any]) -> None:
        await client.hincrby("counts", name, 1)

    await _run(task, Broker(task), handle)


async def transform(task: Task) -> None:
    """Send an event for each."""
    broker = Broker(task)
    output = broker.task("output")(_nothing).kicker().with_labels(queue_name=OUTPUT)

    async def handle(name: str, event: dict[str, Any]) -> None:
        await output.kiq(name, twice(event))

    await _run(task, broker, handle)


async def _nothing(name: str, event: dict[str, Any]) -> None:
    """Whoever runs it has what it is for."""


AT_ONCE = 100
"""Tasks that are sent, or worked on, at the same time: what a worker has by default."""


def _filled(task: Task, broker: Broker) -> None:
    """With what it would have sent."""
    entries = []
    for number in range(task.events):
        message = TaskiqMessage(
            task_id=str(number),
            task_name="work",
            labels={},
            args=[key(number), value(number)],
            kwargs={},
        )
        entries.append((TOPIC, {b"data": broker.formatter.dumps(message).message}))
    fill(task.url, entries)


async def _send(task: Task, work: Any) -> None:
    for start in range(0, task.events, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, task.events))
        await asyncio.gather(*(work.kiq(key(number), value(number)) for number in numbers))


async def _run(task: Task, broker: Broker, handle: Handle) -> None:
    async def work(name: str, event: dict[str, Any]) -> None:
        await handle(name, event)
        task.tick(event)

    broker.task("work")(work)
    _filled(task, broker)
    await broker.startup()
    receiver = asyncio.create_task(
        run_receiver_task(
            broker,
            validate_params=False,
            max_async_tasks=AT_ONCE,
            max_prefetch=AT_ONCE,
            ack_time=AcknowledgeType.WHEN_EXECUTED,
        )
    )
    client = redis.asyncio.Redis.from_url(task.url)

    async def is_acknowledged() -> bool:
        return not (await client.xpending(TOPIC, GROUP))["pending"]

    await task.end_when(is_acknowledged)
    receiver.cancel()
    await asyncio.gather(receiver, return_exceptions=True)
    await broker.shutdown()


if __name__ == "__main__":
    works = {"consume": consume, "count": count, "transform": transform, "produce": produce}
    serve(PACKAGES, works, run=uvloop.run)
