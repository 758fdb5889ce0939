"""A small application in which everything happens that can be interrupted.

Numbers come in under a few keys, half of them appended, half of them through the outbox. One agent
keeps a journal and a count for each key, sends a copy of each number, and an alarm for
some; it raises at the first attempt of some numbers, and at every attempt of others. A second agent
on the same topic adds the numbers up. A third one notes alarms. A fourth one gets the numbers by
shared delivery, and sends a receipt for each, with the same failures; a worker that had claimed
some of them has died before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import faust
import orjson

from redfaust.brokers.broker import Broker, Outgoing, TopicSpec
from redfaust.brokers.redis.entry import MAX_HEADERS
from redfaust.errors import BrokerUnavailable, DatabaseUnavailable
from redfaust.outbox.outbox import Outbox
from redfaust.outbox.relay import Relay
from redfaust.postgres.database import Database
from redfaust.processing.parking import attempts_of
from redfaust.processing.rejected import dead_letter_rejected
from redfaust.processing.retries import Retries
from redfaust.transports.by_url import broker_by_url

APP = "scenario"
PARTITIONS = 2
EVENTS = 40
KEYS = 6
ATTEMPTS = 3
MOVE_AT = 17
"""The number at whose sight a worker begins anew with its partitions, once."""
PATIENCE = 12.0

IMPATIENT: Mapping[str, float] = {
    "redfaust.outbox.maintenance.EVERY": 0.1,
    "redfaust.outbox.maintenance.LEFT_AFTER": 0.5,
    "redfaust.outbox.publisher.RETRY_EVERY": 0.02,
    "redfaust.outbox.relay.SILENT_FOR": 0.5,
    "redfaust.outbox.relay.SPARE_POLL": 0.05,
    "redfaust.outbox.batch_cleaner.KEEP_FOR": 0.01,
    "redfaust.postgres.database.SILENT_FOR": 0.5,
    "redfaust.processing.committer.RETRY_EVERY": 0.02,
    "redfaust.processing.retrying.AWAY": 0.05,
    "redfaust.processing.retrying.LOOK_AGAIN": 0.02,
    "redfaust.processing.shared.delivery.FORGET_EVERY": 0.1,
    "redfaust.processing.shared.delivery.RENEW_EVERY": 0.1,
    "redfaust.processing.shared.delivery.RETRY_EVERY": 0.02,
    "redfaust.processing.shared.delivery.TAKE_OVER_EVERY": 0.05,
    "redfaust.processing.shared.delivery.TAKE_WAIT": 0.2,
    "redfaust.processing.shared.inbox.KEPT_FOR": 2.0,
    "redfaust.processing.relaying.RETRY_EVERY": 0.02,
    "redfaust.processing.shared.acknowledger.RETRY_EVERY": 0.02,
    "redfaust.tables.manager.RETRY_EVERY": 0.02,
    "redfaust.transports.conductor.COLLECT_CHANGES": 0.01,
    "redfaust.transports.reading.READ_LIMIT": 4,
    "redfaust.transports.reading.READ_WAIT": 0.2,
    "redfaust.transports.commits.RETRY_EVERY": 0.02,
    "redfaust.transports.reading.RETRY_EVERY": 0.02,
    "redfaust.transports.rebalance.RETRY_EVERY": 0.02,
    "redfaust.brokers.memory.share_group.CLAIM_FOR": 0.5,
    "redfaust.brokers.redis.share_group.CLAIM_FOR": 0.5,
    "redfaust.brokers.membership.HEARTBEAT": 0.05,
}
"""What is patient in production, and would only be waited for here."""


class Place(NamedTuple):
    """Where a scenario happens."""

    broker: str
    database: str


def key_of(number: int) -> str:
    """Keys with ``a`` are appended, keys with ``b`` come through the outbox."""
    return f"{'ab'[number % 2]}{number % KEYS}"


def fails_once(number: int) -> bool:
    return number % 7 == 3


def is_poison(number: int) -> bool:
    return number in {8, 21}


def alarms(number: int) -> bool:
    return number % 8 == 5


def cannot_be_sent(number: int, place: Place) -> bool:
    """What a copy of it would need is more than Redis takes."""
    return number == 12 and not place.broker.startswith("memory")


class Failure(Exception):
    """What the agent raises on purpose."""


def new_app(place: Place) -> faust.App:
    app = faust.App(
        APP,
        broker=place.broker,
        store=place.database,
        web_enabled=False,
        topic_partitions=PARTITIONS,
        broker_commit_interval=0.02,
        stream_buffer_maxsize=6,
    )
    numbers = app.topic("numbers", key_type=str)
    copies = app.topic("copies", key_type=str)
    later = app.topic("alarms", key_type=str)
    journal = app.Table("journal", key_type=str, value_type=list, default=list)
    counts = app.Table("counts", key_type=str, value_type=int, default=int)
    totals = app.Table("totals", key_type=str, value_type=int, default=int)
    rung = app.Table("rung", key_type=str, value_type=list, default=list)
    retries = Retries(attempts=ATTEMPTS, delay=0.01, factor=1.0)
    moved = asyncio.Event()

    @app.agent(numbers, name="journal", concurrency=2, retries=retries)
    async def keep_journal(stream: Any) -> None:
        async for event in stream.events():
            key, number = event.key, event.value
            if number == MOVE_AT and not moved.is_set():
                moved.set()
                app.consumer._membership.start_over()  # type: ignore[attr-defined]
            journal[key] = [*journal[key], number]
            await copies.send(key=key, value=number)
            if cannot_be_sent(number, place):
                too_many = [(f"h{n}", b"") for n in range(MAX_HEADERS + 1)]
                await copies.send(key=key, value=number, headers=too_many)
            if alarms(number):
                await later.schedule(at=datetime.now(UTC), key=key, value=number)  # type: ignore[attr-defined]
            await asyncio.sleep(0)
            counts[key] += 1
            if is_poison(number) or (fails_once(number) and not attempts_of(event.message)):
                raise Failure(number)

    @app.agent(numbers, name="totals")
    async def add_up(stream: Any) -> None:
        async for key, number in stream.items():
            totals[key] += number

    @app.agent(later, name="rung")
    async def ring(stream: Any) -> None:
        async for key, number in stream.items():
            rung[key] = sorted([*rung[key], number])

    receipts = app.topic("receipts", key_type=str)

    @app.agent(numbers, name="post", delivery="shared", concurrency=2, retries=retries)
    async def send_receipts(stream: Any) -> None:
        async for event in stream.events():
            await receipts.send(key=event.key, value=event.value)
            if is_poison(event.value):
                raise Failure(event.value)
            if fails_once(event.value) and not attempts_of(event.message):
                raise Failure(event.value)

    return app


def connect(place: Place) -> Broker:
    return broker_by_url(place.broker, default_partitions=PARTITIONS)


async def send_numbers(place: Place, database: Database) -> None:
    """Put all of them in their places."""
    broker = connect(place)
    for topic in ("numbers", "copies", "alarms", "receipts"):
        await broker.create_topic(TopicSpec(topic, PARTITIONS))
    entries = [
        Outgoing("numbers", orjson.dumps(number), key_of(number).encode())
        for number in range(EVENTS)
    ]
    await broker.append(entries[0::2])
    dead = broker.share_group(f"{APP}/post", "dead")
    await dead.join(["numbers"], from_start=True)
    await dead.claim(2, wait=0)
    await dead.close()
    await broker.close()
    async with Outbox(database).transaction() as tx:
        for entry in entries[1::2]:
            await tx.publish(entry.topic, entry.value, key=entry.key)


@asynccontextmanager
async def living(place: Place) -> AsyncIterator[faust.App]:
    """A worker and a relay, from their start to their graceful stop."""
    app = new_app(place)
    try:
        await asyncio.wait_for(app.start(), PATIENCE)
        # Not before: a worker that cannot reach its servers at its start says so, and ends.
        async with _relaying(place):
            yield app
    finally:
        await asyncio.wait_for(app.stop(), PATIENCE)


@asynccontextmanager
async def _relaying(place: Place) -> AsyncIterator[None]:
    stop = asyncio.Event()
    relaying = asyncio.create_task(_relay(place, stop))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(relaying, PATIENCE)


async def _relay(place: Place, stop: asyncio.Event) -> None:
    while not stop.is_set():
        with suppress(BrokerUnavailable, DatabaseUnavailable):
            broker = connect(place)
            database = await Database.connect(place.database)
            try:
                dead_letter = dead_letter_rejected(database, APP)
                relay = Relay(database, broker, dead_letter=dead_letter, batch=6, poll=0.1)
                await relay.run(stop)
            finally:
                await broker.close()
                await database.close()
        await asyncio.sleep(0.02)
