"""FastStream, batches of events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from tests.bench.events import OUTPUT, twice
from tests.bench.peers.contract import Task, serve
from tests.bench.peers.faststream.app import (
    NUMBERS,
    PACKAGES,
    new_broker,
    produce,
    publish,
    run,
    subscription,
)


async def consume(task: Task) -> None:
    """Look at each event."""
    broker = new_broker(task)

    async def handle(events: list[dict[str, Any]]) -> None:
        for event in events:
            task.tick(event)

    for number in NUMBERS:
        broker.subscriber(stream=subscription(number, batch=True))(handle)
    await run(task, broker)


async def count(task: Task) -> None:
    """Count per key, in a pipeline for each batch."""
    broker = new_broker(task)

    async def handle(events: list[dict[str, Any]]) -> None:
        client: Any = broker._connection
        async with client.pipeline(transaction=False) as pipe:
            for key, events_of_key in Counter(event["key"] for event in events).items():
                pipe.hincrby("counts", key, events_of_key)
            await pipe.execute()
        for event in events:
            task.tick(event)

    for number in NUMBERS:
        broker.subscriber(stream=subscription(number, batch=True))(handle)
    await run(task, broker)


async def transform(task: Task) -> None:
    """Send an event for each, in a pipeline for each batch."""
    broker = new_broker(task)

    def handler(number: int) -> Callable[[list[dict[str, Any]]], Awaitable[None]]:
        async def handle(events: list[dict[str, Any]]) -> None:
            await publish(broker, OUTPUT, ((number, twice(event)) for event in events))
            for event in events:
                task.tick(event)

        return handle

    for number in NUMBERS:
        broker.subscriber(stream=subscription(number, batch=True))(handler(number))
    await run(task, broker)


if __name__ == "__main__":
    works = {"consume": consume, "count": count, "transform": transform, "produce": produce}
    serve(PACKAGES, works, run=uvloop.run)
