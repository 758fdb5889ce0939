"""Faust's own machinery on a plain driver for Redis Streams."""

from __future__ import annotations

import faust
import uvloop

from tests.bench.events import PARTITIONS, TOPIC
from tests.bench.peers.bare.loops import entry
from tests.bench.peers.contract import Task, serve
from tests.bench.peers.faust.app import PACKAGES, new_app, works
from tests.bench.peers.faust.driver import use_redis
from tests.bench.peers.filling import fill


async def fill_topic(task: Task, events: int) -> None:
    """As its producer would. A stream is there with its first entry."""
    numbers = range(events)
    fill(task.url, ((f"{TOPIC}:{number % PARTITIONS}", entry(number)) for number in numbers))


async def connect(task: Task) -> faust.App:
    """Whatever the broker's URL is taken for before."""
    app = new_app("kafka://unused")
    use_redis(app, task.url)
    return app


if __name__ == "__main__":
    serve((*PACKAGES, "redis", "hiredis"), works(connect, fill_topic), run=uvloop.run)
