"""runnel: a processor of batches of records, for each partition.

Records are decoded by orjson and keys hashed by xxhash, which it takes where they are installed. It
has no tables: what is counted is kept in a hash of the same Redis.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from runnel import App, Record
from runnel.stream import Stream
from runnel.worker import Worker

from tests.bench.events import BATCH, OUTPUT, PARTITIONS, TOPIC, key, twice, value
from tests.bench.peers.contract import Task, serve

PACKAGES = ("runnel", "aredis", "hiredis", "orjson", "pydantic")

Handle = Callable[[list["Event"]], Awaitable[None]]


class Event(Record):
    """As it is sent."""

    key: str
    number: int
    amount: int
    note: str


class Twice(Event):
    """What is sent for one."""

    twice: int


def new_app(task: Task) -> App:
    """One that joins at once, and keeps all."""
    return App(
        name="bench",
        redis_url=task.url,
        log_level="critical",
        default_partition_count=PARTITIONS,
        default_partition_size=10 * task.events,
        default_prefetch_count=BATCH,
        default_join_delay=0,
    )


async def produce(task: Task) -> None:
    """Send a thousand at a time."""
    stream = new_app(task).stream(TOPIC, record=Event, partition_by="key")
    task.begin()
    await _fill(task, stream)
    task.end()


async def consume(task: Task) -> None:
    """Look at each event."""
    app = new_app(task)

    async def handle(events: list[Event]) -> None:
        pass

    await _run(task, app, handle)


async def count(task: Task) -> None:
    """Count per key, in a pipeline for each batch."""
    app = new_app(task)

    async def handle(events: list[Event]) -> None:
        async with await app.redis.pipeline(transaction=False) as pipe:
            for name, events_of_key in Counter(event.key for event in events).items():
                await pipe.hincrby("counts", name, events_of_key)
            await pipe.execute()

    await _run(task, app, handle)


async def transform(task: Task) -> None:
    """Send an event for each, a batch at a time."""
    app = new_app(task)
    output = app.stream(OUTPUT, record=Twice, partition_by="key")

    async def handle(events: list[Event]) -> None:
        await output.send(*(Twice(**twice(event.dict())) for event in events))

    await _run(task, app, handle)


async def _fill(task: Task, stream: Any) -> None:
    for start in range(0, task.events, BATCH):
        numbers = range(start, min(start + BATCH, task.events))
        await stream.send(*(Event(key=key(number), **value(number)) for number in numbers))


async def _run(task: Task, app: App, handle: Handle) -> None:
    stream = app.stream(TOPIC, record=Event, partition_by="key")
    await _fill(task, stream)

    @app.processor(stream)
    async def work(batches: Any) -> None:
        async for events in batches.take(BATCH, within=0.1).records():
            await handle(events)
            for event in events:
                task.tick(event.dict())

    _begin_with_read(task)
    worker = asyncio.create_task(Worker(app)._start())

    async def is_acknowledged() -> bool:
        pending = [await app.redis.xpending(name, "work") for name in stream.all_partition_keys()]
        return not any(summary[0] for summary in pending)

    await task.end_when(is_acknowledged)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


def _connect_without_loop() -> None:
    """Its client hands over an event loop, which Python takes no more since 3.10."""
    connect = asyncio.open_connection

    async def open_connection(*args: Any, loop: object, **kwargs: Any) -> Any:
        return await connect(*args, **kwargs)

    asyncio.open_connection = open_connection  # type: ignore[assignment]


def _begin_with_read(task: Task) -> None:
    """What it waits for at its start is not counted."""
    read = Stream.read

    async def noted_read(*args: Any, **kwargs: Any) -> Any:
        task.begin()
        return await read(*args, **kwargs)

    Stream.read = noted_read


if __name__ == "__main__":
    _connect_without_loop()
    works = {"consume": consume, "count": count, "transform": transform, "produce": produce}
    serve(PACKAGES, works)
