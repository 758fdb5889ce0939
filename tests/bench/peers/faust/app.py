"""Faust as it comes, over any of its drivers.

Values are decoded by orjson, as by Faust's extra ``fast``, and the loop is uvloop, as by its extra
``uvloop``. All else is left at its defaults.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import faust

from tests.bench.events import BATCH, OUTPUT, PARTITIONS, TOPIC, key, twice, value
from tests.bench.peers.contract import Task, Work

PACKAGES = ("faust-streaming", "mode-streaming", "orjson", "uvloop")

Connect = Callable[[Task], Awaitable[faust.App]]
"""Make an application that is connected."""

Fill = Callable[[Task, int], Awaitable[None]]
"""Create topics, and put so many events into the first."""

Declare = Callable[[faust.App, Task], None]


def new_app(broker: str) -> faust.App:
    """As it is in Faust's documentation."""
    logging.disable(logging.ERROR)
    directory = tempfile.mkdtemp(prefix="redfaust-bench-faust-")
    atexit.register(shutil.rmtree, directory)
    return faust.App(
        "bench",
        broker=broker,
        datadir=directory,
        topic_partitions=PARTITIONS,
        topic_disable_leader=True,
        web_enabled=False,
    )


def add_looking_agent(app: faust.App, task: Task) -> None:
    """It looks at each event."""

    @app.agent(app.topic(TOPIC, key_type=str))
    async def work(stream: Any) -> None:
        async for event in stream:
            task.tick(event)


def add_counting_agent(app: faust.App, task: Task) -> None:
    """It counts per key in a table in memory, each change of which goes to a changelog topic."""
    counts = app.Table("counts", default=int, key_type=str, value_type=int)

    @app.agent(app.topic(TOPIC, key_type=str))
    async def work(stream: Any) -> None:
        async for name, event in stream.items():
            counts[name] += 1
            task.tick(event)


def add_sending_agent(app: faust.App, task: Task) -> None:
    """It sends an event for each."""
    output = app.topic(OUTPUT, key_type=str)

    @app.agent(app.topic(TOPIC, key_type=str))
    async def work(stream: Any) -> None:
        async for name, event in stream.items():
            await output.send(key=name, value=twice(event))
            task.tick(event)


def works(connect: Connect, fill: Fill) -> Mapping[str, Work]:
    """What it can do."""

    def working(declare: Declare) -> Work:
        async def work(task: Task) -> None:
            await fill(task, task.events)
            app = await connect(task)
            declare(app, task)
            await _run(app, task)

        return work

    async def produce(task: Task) -> None:
        await fill(task, 0)
        app = await connect(task)
        await app.producer.start()
        await _produce(app, task)
        await app.producer.stop()

    return {
        "consume": working(add_looking_agent),
        "count": working(add_counting_agent),
        "transform": working(add_sending_agent),
        "produce": produce,
    }


async def _run(app: faust.App, task: Task) -> None:
    consumer: Any = app.consumer
    read = consumer._getmany

    async def noted_read(*args: Any, **kwargs: Any) -> Any:
        task.begin()
        return await read(*args, **kwargs)

    consumer._getmany = noted_read
    await app.start()

    async def is_committed() -> bool:
        await consumer.commit()
        positions = consumer._committed_offset.items()
        return sum(offset or 0 for tp, offset in positions if tp.topic == TOPIC) >= task.events

    await task.end_when(is_committed)
    await app.stop()


async def _produce(app: faust.App, task: Task) -> None:
    topic = app.topic(TOPIC, key_type=str)
    task.begin()
    for start in range(0, task.events, BATCH):
        numbers = range(start, min(start + BATCH, task.events))
        sent = [
            await topic.send(key=key(n), value=value(n), partition=n % PARTITIONS) for n in numbers
        ]
        await asyncio.gather(*sent)
    task.end()
