"""FastStream, one event at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from tests.bench.events import OUTPUT, twice
from tests.bench.peers.contract import Task, serve
from tests.bench.peers.faststream.app import (
    NUMBERS,
    PACKAGES,
    new_broker,
    run,
    subscription,
)


async def consume(task: Task) -> None:
    """Look at each event."""
    broker = new_broker(task)

    async def handle(event: dict[str, Any]) -> None:
        task.tick(event)

    for number in NUMBERS:
        broker.subscriber(stream=subscription(number, batch=False))(handle)
    await run(task, broker)


async def count(task: Task) -> None:
    """Count per key."""
    broker = new_broker(task)

    async def handle(event: dict[str, Any]) -> None:
        client: Any = broker._connection
        await client.hincrby("counts", event["key"], 1)
        task.tick(event)

    for number in NUMBERS:
        broker.subscriber(stream=subscription(number, batch=False))(handle)
    await run(task, broker)


async def transform(task: Task) -> None:
    """Send an event for each."""
    broker = new_broker(task)

    def handler(number: int) -> Callable[[dict[str, Any]], Awaitable[None]]:
        async def handle(event: dict[str, Any]) -> None:
            await broker.publish(twice(event), stream=f"{OUTPUT}:{number}")
            task.tick(event)

        return handle

    for number in NUMBERS:
        broker.subscriber(stream=subscription(number, batch=False))(handler(number))
    await run(task, broker)


if __name__ == "__main__":
    serve(PACKAGES, {"consume": consume, "count": count, "transform": transform}, run=uvloop.run)
