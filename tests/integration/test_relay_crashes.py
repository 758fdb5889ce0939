"""Relays in processes of their own, killed at every named point, while rows are inserted."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import pytest
from faust.types import TP

from redfaust import failpoints
from redfaust.brokers.redis import RedisBroker
from redfaust.brokers.redis.offsets import BEGINNING
from redfaust.outbox.outbox import Outbox, outbox_status
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from tests.integration.outbox_streams import new_relay

TIMEOUT = 30.0
PARTITIONS = 3
WRITERS = 3
KEYS = 5
"""For each writer."""
BACKLOG = 1200
"""Rows that lie there before: more than two batches."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
async def broker(any_broker_url: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(any_broker_url, default_partitions=PARTITIONS)
    yield broker
    await broker.close()


class Writer:
    """Publishes values 0, 1, 2, … under each of its keys, and some without a key."""

    def __init__(self, database: Database, name: int) -> None:
        self._outbox = Outbox(database)
        self._name = name
        self._numbers = count()
        self.written: list[tuple[bytes | None, bytes | None]] = []

    async def transaction(self) -> None:
        """An event for each key and one for none."""
        number = next(self._numbers)
        entries: list[tuple[bytes | None, bytes]] = [
            (b"%d-%d" % (self._name, key), b"%d" % number) for key in range(KEYS)
        ]
        entries.append((None, b"%d-%d" % (self._name, number)))
        async with self._outbox.transaction() as tx:
            for key, value in entries:
                await tx.publish("events", value, key=key, headers={"type": "Happened"})
        self.written += entries

    async def until(self, stop: asyncio.Event) -> None:
        """Write until told to stop."""
        while not stop.is_set():
            await self.transaction()


# Processes forked from one that has imported everything: each start saves 1.5 seconds.
_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload([__name__])


def relay_until_killed(point: str, broker_url: str, database_url: str) -> None:
    """What the process does."""
    failpoints.point = failpoints.armed({failpoints.VARIABLE: point})

    async def run() -> None:
        broker = RedisBroker(broker_url, default_partitions=PARTITIONS)
        database = await Database.connect(database_url)
        await new_relay(database, broker, poll=1.0).run(asyncio.Event())

    asyncio.run(run())


async def crash_at(point: str, broker_url: str, database_url: str) -> None:
    """Run a relay that is killed there."""
    process = _fork.Process(target=relay_until_killed, args=(point, broker_url, database_url))
    process.start()
    await asyncio.to_thread(process.join, TIMEOUT)
    code = process.exitcode
    process.kill()
    assert code == -signal.SIGKILL


async def crash_the_command_at(point: str, broker_url: str, database_url: str) -> None:
    """Run ``redfaust relay`` with the variable that kills it there."""
    environ = {name: value for name, value in os.environ.items() if "FAUST_" not in name}
    environ |= {
        "REDFAUST_BROKER": broker_url,
        "REDFAUST_DATABASE": database_url,
        "REDFAUST_PARTITIONS": str(PARTITIONS),
        failpoints.VARIABLE: point,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app", "relay", env=environ
    )
    try:
        assert await asyncio.wait_for(process.wait(), TIMEOUT) == -signal.SIGKILL
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def relay_the_rest(database: Database, broker: RedisBroker) -> None:
    """A relay that nobody kills."""
    stop = asyncio.Event()
    relay = asyncio.create_task(new_relay(database, broker, poll=1.0).run(stop))
    async with asyncio.timeout(TIMEOUT):
        while (await outbox_status(database)).depth:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        stop.set()
        await relay


async def published(broker: RedisBroker) -> list[tuple[bytes | None, bytes | None]]:
    tps = [TP("events", partition) for partition in range(PARTITIONS)]
    logs = await broker.read(dict.fromkeys(tps, BEGINNING), limit=1_000_000, wait=0)
    return [(record.key, record.value) for log in logs.values() for record in log]


@asynccontextmanager
async def rows_inserted(database: Database) -> AsyncIterator[list[Writer]]:
    """Writers at work during the block, with a backlog before it."""
    writers = [Writer(database, name) for name in range(WRITERS)]
    while sum(len(writer.written) for writer in writers) < BACKLOG:
        await asyncio.gather(*(writer.transaction() for writer in writers))
    stop = asyncio.Event()
    writing = asyncio.gather(*(writer.until(stop) for writer in writers))
    try:
        yield writers
    finally:
        stop.set()
        await writing


async def everything_is_published_once_in_order(
    writers: Sequence[Writer], broker: RedisBroker
) -> None:
    found = await published(broker)
    written = [entry for writer in writers for entry in writer.written]
    assert sorted(found, key=repr) == sorted(written, key=repr)
    for key in {key for key, _ in written} - {None}:
        values = [int(value or b"") for other, value in found if other == key]
        assert values == list(range(len(values)))


@pytest.mark.parametrize(
    "points",
    [
        ["outbox.taken_over"],
        ["relay.claimed"],
        ["outbox.appended"],
        ["outbox.published"],
        ["relay.claimed:3", "outbox.appended", "relay.claimed", "outbox.appended:2"],
    ],
    ids=" then ".join,
)
async def test_wherever_a_relay_is_killed_every_event_is_published_once_in_order(
    database: Database,
    broker: RedisBroker,
    any_broker_url: str,
    database_url: str,
    points: list[str],
) -> None:
    async with rows_inserted(database) as writers:
        for point in points:
            await crash_at(point, any_broker_url, database_url)
    await relay_the_rest(database, broker)
    await everything_is_published_once_in_order(writers, broker)


async def test_the_command_can_be_killed_as_well(
    database: Database, broker: RedisBroker, any_broker_url: str, database_url: str
) -> None:
    async with rows_inserted(database) as writers:
        pass
    await crash_the_command_at("outbox.appended:2", any_broker_url, database_url)
    await relay_the_rest(database, broker)
    await everything_is_published_once_in_order(writers, broker)
