"""Real workers on a real Redis share partitions, come, go, and die."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable

import pytest

from redfaust import failpoints
from redfaust.brokers.broker import Broker, Outgoing
from redfaust.brokers.membership import NAME
from redfaust.postgres.database import Database
from redfaust.transports.by_url import broker_by_url
from tests.integration.faust_apps import eventually
from tests.integration.worker_processes import (
    APP,
    PARTITIONS,
    Place,
    Workers,
    new_app,
    owned,
)
from tests.rights import create_tables_of

KEYS = [f"k{number}" for number in range(40)]


@pytest.fixture
async def broker(empty_valkey_url: str) -> AsyncIterator[Broker]:
    broker = broker_by_url(empty_valkey_url, default_partitions=PARTITIONS)
    await broker.open()
    yield broker
    await broker.close()


@pytest.fixture
async def workers(
    broker: Broker, empty_valkey_url: str, database_url: str
) -> AsyncIterator[Workers]:
    place = Place(empty_valkey_url, database_url)
    await create_tables_of(new_app(place))
    workers = Workers(place, broker)
    yield workers
    workers.kill_all()


class Events:
    """One more event for each key, and whether all have been counted once."""

    def __init__(self, broker: Broker, database: Database) -> None:
        self._broker = broker
        self._database = database
        self._sent = 0

    async def send(self) -> None:
        await self._broker.append([Outgoing("numbers", b"1", key.encode()) for key in KEYS])
        self._sent += 1

    async def send_until(self, done: asyncio.Event) -> None:
        while not done.is_set():
            await self.send()
            await asyncio.sleep(0.01)

    async def all_counted(self) -> None:
        await eventually(self._are_counted)

    async def _are_counted(self) -> bool:
        rows = await self._database.pool.fetch(f"SELECT key, value FROM {APP}.counts")
        counted = {row["key"]: row["value"] for row in rows}
        assert all(count <= self._sent for count in counted.values())
        return counted == dict.fromkeys(KEYS, self._sent)


@pytest.fixture
async def events(broker: Broker, database_url: str) -> AsyncIterator[Events]:
    database = await Database.connect(database_url)
    yield Events(broker, database)
    await database.close()


def names(numbers: Iterable[int]) -> list[str]:
    return [f"worker-{number}" for number in numbers]


async def test_one_four_eight_and_two_workers_while_events_flow(
    workers: Workers, events: Events
) -> None:
    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        workers.start("worker-1")
        await workers.share("worker-1")
        group.create_task(events.send_until(done))
        for before, count in ((1, 4), (4, 8)):
            for name in names(range(before + 1, count + 1)):
                workers.start(name)
            await workers.share(*names(range(1, count + 1)))
        leaving = names(range(3, 9))
        assert await asyncio.gather(*map(workers.end, leaving)) == [0] * 6
        await workers.share("worker-1", "worker-2")
        done.set()
    await events.all_counted()


async def test_one_is_killed_and_comes_back_to_what_it_had(
    workers: Workers, events: Events
) -> None:
    for name in names(range(1, 4)):
        workers.start(name)
        before = owned(await workers.share(*names(range(1, int(name[7:]) + 1))))
    await events.send()
    await workers.end("worker-2", signal.SIGKILL)
    await events.send()
    between = owned(await workers.share("worker-1", "worker-3"))
    for name, numbers in between.items():
        assert before[name] <= numbers
    await events.all_counted()
    workers.start("worker-2")
    after = owned(await workers.share(*names(range(1, 4))))
    assert after["worker-2"] < before["worker-2"]  # who joins last has less
    await events.send()
    await events.all_counted()


async def test_one_that_was_stopped_for_long_changes_nothing_and_is_back(
    workers: Workers, events: Events
) -> None:
    for name in names(range(1, 3)):
        workers.start(name)
    await workers.share(*names(range(1, 3)))
    await events.send()
    await events.all_counted()
    workers.send("worker-1", signal.SIGSTOP)
    await events.send()
    await workers.share("worker-2")
    await events.send()
    await events.all_counted()
    workers.send("worker-1", signal.SIGCONT)
    await workers.share(*names(range(1, 3)))
    await events.send()
    await events.all_counted()
    assert [await workers.end(name) for name in names(range(1, 3))] == [0, 0]


async def test_one_dies_when_it_has_handed_over_and_not_said_so(
    workers: Workers, events: Events
) -> None:
    workers.start("worker-1", **{failpoints.VARIABLE: "shares.handed_over"})
    await workers.share("worker-1")
    await events.send()
    await events.all_counted()
    workers.start("worker-2")
    assert await workers.end("worker-1", None) == -signal.SIGKILL
    await workers.share("worker-2")
    await events.send()
    await events.all_counted()


async def test_two_of_the_same_name_are_two(workers: Workers, broker: Broker) -> None:
    for process in ("one", "other"):
        workers.start(process, **{NAME: "worker-1"})
    group_state = await workers.until(lambda group_state: len(group_state.assignment.members) == 2)
    first, second = group_state.assignment.members
    assert first != second
