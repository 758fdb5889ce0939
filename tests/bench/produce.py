"""How fast can events be sent? ``python -m tests.bench.produce`` prints it.

The bare loop appends by redis-py's pipelines, with nothing around them. Each row writes the same
events, and is measured until all of them are on their streams.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import redis.asyncio

from app.embedded import running_postgres, running_valkey
from connectors.brokers.broker import Broker, TopicSpec
from connectors.collector import relax_collector
from connectors.outbox.outbox import Outbox
from connectors.outbox.relay import Relay
from connectors.postgres.database import Database
from connectors.postgres.migrate import migrate_connectors
from connectors.processing.unsent import keep_unsent
from connectors.transports.by_url import broker_by_url
from tests.bench import workloads
from tests.bench.workloads import (
    LOOK_EVERY,
    PARTITIONS,
    TOPIC,
    Beginning,
    Servers,
    Speed,
    clear,
    new_app,
)

ROUNDS = 5
EVENTS = 50_000
BATCH = 1000
"""Events that are sent before any of them is waited for."""
AT_ONCE = 16
"""Transactions that are under way, as many requests of a web server would have them."""
KEYS = 1000


class Row(NamedTuple):
    """What is measured, over a part of the events where it is slow."""

    name: str
    measure: Callable[[Servers], Awaitable[Speed]]
    share: float = 1.0


async def pipelines(servers: Servers) -> Speed:
    """What redis-py does with nothing around it: the ceiling to compare with."""
    client: Any = redis.asyncio.Redis.from_url(servers.broker, protocol=2)
    streams = [f"{{{TOPIC}:{number}}}" for number in range(PARTITIONS)]
    beginning = Beginning.now()
    for start in range(0, servers.events, BATCH):
        async with client.pipeline(transaction=False) as pipeline:
            for number in range(start, start + BATCH):
                fields = {"_v": orjson.dumps(workloads.value(number)), "_k": _key(number)}
                pipeline.xadd(streams[number % PARTITIONS], fields)
            await pipeline.execute()
    speed = beginning.speed(servers.events)
    await client.aclose()
    return speed


async def send(servers: Servers) -> Speed:
    """An application that only sends, and waits for what it has sent."""
    app = new_app(servers, "memory://")
    topic = app.topic(TOPIC, key_type=str)
    await app.start_client()
    await topic.maybe_declare()
    beginning = Beginning.now()
    for start in range(0, servers.events, BATCH):
        sent = [
            await topic.send(key=_key(number), value=workloads.value(number))
            for number in range(start, start + BATCH)
        ]
        await asyncio.gather(*sent)
    speed = beginning.speed(servers.events)
    await app.stop()
    return speed


async def publish_singly(servers: Servers) -> Speed:
    """Transactions of application code, each with one event, several at once."""
    return await _publish(servers, size=1)


async def publish_many(servers: Servers) -> Speed:
    """Transactions of application code, each with a hundred events."""
    return await _publish(servers, size=100)


async def _publish(servers: Servers, *, size: int) -> Speed:
    async with _relayed(servers) as (outbox, broker):
        starts = iter(range(0, servers.events, size))

        async def work() -> None:
            for start in starts:
                async with outbox.transaction() as transaction:
                    for number in range(start, start + size):
                        value = orjson.dumps(workloads.value(number))
                        await transaction.publish(TOPIC, value, key=_key(number))

        beginning = Beginning.now()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(work())
        while await workloads.arrived(broker, TOPIC) < servers.events:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        return beginning.speed(servers.events)


@asynccontextmanager
async def _relayed(servers: Servers) -> AsyncIterator[tuple[Outbox, Broker]]:
    """An outbox whose relay works in this process, and where it puts the events."""
    broker = broker_by_url(servers.broker, default_partitions=PARTITIONS)
    await broker.open()
    await broker.create_topic(TopicSpec(TOPIC, PARTITIONS))
    database = await Database.connect(servers.database)
    await migrate_connectors(database)
    stop = asyncio.Event()
    relay = Relay(database, broker, set_aside=keep_unsent(database, "bench"))
    running = asyncio.create_task(relay.run(stop))
    try:
        yield Outbox(database), broker
    finally:
        stop.set()
        await running
        await database.close()
        await broker.close()


def _key(number: int) -> str:
    return f"key-{number % KEYS}"


BARE = Row(f"bare redis-py pipelines of {BATCH:,} XADD", pipelines)
ROWS = [
    BARE,
    Row(f"topic.send(), {BATCH:,} awaited together, at least once", send),
    Row("outbox, application's transactions of 100 events", publish_many, share=0.2),
    Row("outbox, application's transactions of 1 event", publish_singly, share=0.1),
]


async def measure(servers: Servers, rounds: int = ROUNDS) -> Mapping[Row, Sequence[Speed]]:
    """Measure every row, in turn, so many times. Leaves nothing anywhere before each."""
    speeds: dict[Row, list[Speed]] = {row: [] for row in ROWS}
    for _ in range(rounds):
        for row in ROWS:
            await clear(servers)
            part = servers._replace(events=int(servers.events * row.share))
            speeds[row].append(await row.measure(part))
    return speeds


def report(speeds: Mapping[Row, Sequence[Speed]]) -> None:
    """Print rates, and their ratios to the bare loop."""
    width = max(len(row.name) for row in speeds)
    print(f"{'':{width}}  events/s  x bare loop  by medians  CPU us/event")  # noqa: T201
    for row, measured in speeds.items():
        rates, bare = _rates(measured), _rates(speeds[BARE])
        print(  # noqa: T201
            f"{row.name:{width}}  {max(rates):8,.0f}  {max(rates) / max(bare):11.2f}  "
            f"{statistics.median(rates) / statistics.median(bare):10.2f}  "
            f"{min(speed.cpu for speed in measured):12.1f}"
        )


def _rates(speeds: Sequence[Speed]) -> list[float]:
    return [speed.events_per_second for speed in speeds]


async def main() -> None:
    """Measure beside servers of our own, and print."""
    relax_collector()  # as a worker does; it helps the bare loop too
    with tempfile.TemporaryDirectory(prefix="redfaust-bench-") as directory:
        os.environ["APP_DATADIR"] = f"{directory}/app"
        async with (
            running_valkey(Path(directory) / "valkey") as valkey,
            running_postgres(Path(directory) / "postgres") as postgres,
        ):
            speeds = await measure(Servers(valkey.url, postgres.url, EVENTS))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ")  # noqa: T201
    print(f"{EVENTS} events of about 200 bytes, best of {ROUNDS}\n")  # noqa: T201
    report(speeds)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
