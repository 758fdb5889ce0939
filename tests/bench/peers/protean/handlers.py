"""protean on Redis Streams: a handler of the events of an aggregate, with the profile for batches.

What its outbox would put on the stream lies there before. It handles events one by one, each in a
unit of work, and has partitions only of one key each, so there is one stream. What is counted are
aggregates in its memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from protean import Domain, current_domain, handle
from protean.exceptions import ObjectNotFoundError
from protean.fields import Identifier, Integer, String
from protean.server import Engine
from protean.utils.eventing import Message

from tests.bench.events import OUTPUT, key, twice, value
from tests.bench.peers.contract import Task, serve
from tests.bench.peers.filling import fill

PACKAGES = ("protean", "redis", "hiredis", "pydantic")

Effect = Callable[[Any], None]


class Bench:
    """A domain with an event."""

    def __init__(self, task: Task) -> None:
        logging.disable(logging.ERROR)
        self.domain = Domain(
            name="bench",
            config={
                "brokers": {"default": {"provider": "redis", "URI": task.url}},
                "server": {
                    "default_subscription_type": "stream",
                    "default_subscription_profile": "batch",
                },
                "observatory": {"trace_retention_days": 0},
            },
        )

        @self.domain.aggregate
        class Count:
            key = Identifier(identifier=True)
            events = Integer(default=0)

        @self.domain.event(part_of=Count)
        class Happened:
            key = Identifier(required=True)
            number = Integer(required=True)
            amount = Integer(required=True)
            note = String(max_length=200)

        self.count: Any = Count
        self.event: Any = Happened

    def add_handler(self, task: Task, effect: Effect) -> str:
        """Have each event take effect; gives the stream that they come from."""

        @self.domain.event_handler(part_of=self.count)
        class Handler:
            @handle(self.event)
            def work(self, event: Any) -> None:
                effect(event)
                task.tick(event.payload)

        self.domain.init(traverse=False)
        return str(self.count.meta_.stream_category)

    def message(self, number: int) -> dict[str, Any]:
        """What its outbox sends for an event."""
        with self.domain.domain_context():
            aggregate = self.count(key=key(number))
            aggregate.raise_(self.event(key=key(number), **value(number)))
            sent: dict[str, Any] = Message.from_domain_object(aggregate._events[0]).to_dict()
            return sent


async def produce(task: Task) -> None:
    """Send, one by one: it has no way to send many."""
    bench = Bench(task)
    bench.domain.init(traverse=False)
    broker = bench.domain.brokers["default"]
    task.begin()
    for number in range(task.events):
        broker.publish(str(bench.count.meta_.stream_category), bench.message(number))
    task.end()


async def consume(task: Task) -> None:
    """Look at each event."""
    await _run(task, Bench(task), lambda _: None)


async def count(task: Task) -> None:
    """Count per key."""
    bench = Bench(task)

    def effect(event: Any) -> None:
        counts = current_domain.repository_for(bench.count)
        try:
            counted = counts.get(event.key)
        except ObjectNotFoundError:
            counted = bench.count(key=event.key)
        counted.events += 1
        counts.add(counted)

    await _run(task, bench, effect)


async def transform(task: Task) -> None:
    """Send an event for each."""
    bench = Bench(task)

    def effect(event: Any) -> None:
        bench.domain.brokers["default"].publish(OUTPUT, twice(event.payload))

    await _run(task, bench, effect)


async def _run(task: Task, bench: Bench, effect: Effect) -> None:
    stream = bench.add_handler(task, effect)
    numbers = range(task.events)
    fill(task.url, ((stream, {b"data": json.dumps(bench.message(n)).encode()}) for n in numbers))
    engine = Engine(bench.domain)
    engine.loop = asyncio.get_running_loop()
    (subscription,) = engine._subscriptions.values()
    subscription.loop = engine.loop
    task.begin()
    await subscription.start()
    client = bench.domain.brokers["default"]._client

    async def is_acknowledged() -> bool:
        return not client.xpending(stream, subscription.consumer_group)["pending"]

    await task.end_when(is_acknowledged)
    await subscription.shutdown()


if __name__ == "__main__":
    works = {"consume": consume, "count": count, "transform": transform, "produce": produce}
    serve(PACKAGES, works)
