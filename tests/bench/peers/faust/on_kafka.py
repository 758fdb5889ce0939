"""Faust on its own driver for Kafka."""

from __future__ import annotations

import faust
import orjson
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.bench.events import BATCH, OUTPUT, PARTITIONS, TOPIC, key, value
from tests.bench.peers.contract import Task, serve
from tests.bench.peers.faust.app import PACKAGES, new_app, works

CHANGELOG = "bench-counts-changelog"


async def fill_topic(task: Task, events: int) -> None:
    """As its producer would."""
    bootstrap = task.url.removeprefix("kafka://")
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics(
        [NewTopic(name, PARTITIONS, 1) for name in (TOPIC, OUTPUT, CHANGELOG)]
    )
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    await producer.start()
    for start in range(0, events, BATCH):
        for number in range(start, min(start + BATCH, events)):
            name, data = key(number).encode(), orjson.dumps(value(number))
            await producer.send(TOPIC, data, name, number % PARTITIONS)
        await producer.flush()
    await producer.stop()


async def connect(task: Task) -> faust.App:
    """By its driver, which is what ``kafka://`` means to Faust."""
    return new_app(task.url)


if __name__ == "__main__":
    serve((*PACKAGES, "aiokafka"), works(connect, fill_topic), run=uvloop.run)
