"""A worker dies at every named point, in every way: everything is done once all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from redis.asyncio import Redis

from connectors import crash
from connectors.postgres.database import Database
from connectors.postgres.migrate import migrate_connectors
from connectors.transports.memory.broker import _logs
from connectors.transports.redis import keys
from tests.crashes.oracle import Oracle
from tests.crashes.scenario import APP, IMPATIENT, PATIENCE, Place, living, send_numbers
from tests.crashes.ways import (
    WITH_STALLS,
    Trouble,
    cancel_at,
    cancel_the_rest,
    ends,
    is_stopped,
    time_of,
    trouble,
    ways_to,
    worker,
)

ELSEWHERE = {
    "outbox.restored": "tests/integration/test_set_back.py",
    "mail.taken": "tests/integration/test_recorded_mail.py",
    "mail.recorded": "tests/integration/test_recorded_mail.py",
}
"""What this scenario does not come to, and who tests it."""

POINTS = [point for point in crash.POINTS if point not in ELSEWHERE]
IN_MEMORY = [point for point in POINTS if point != "outbox.set_aside"]

REDIS_AND_MEMORY = [("redis", point) for point in POINTS] + [
    ("memory", point) for point in IN_MEMORY
]


@pytest.fixture(params=["redis"])
def place(
    request: pytest.FixtureRequest, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Place:
    """Servers with all numbers, and nothing done yet."""
    for name, value in IMPATIENT.items():
        monkeypatch.setattr(name, value)
    broker = (
        f"memory://{uuid.uuid4().hex}"
        if request.param == "memory"
        else request.getfixturevalue("empty_valkey_url")
    )
    return Place(broker, database_url)


@pytest.fixture
async def oracle(place: Place) -> AsyncIterator[Oracle]:
    database = await Database.connect(place.database)
    await migrate_connectors(database)
    await send_numbers(place, database)
    oracle = Oracle(place, database)
    yield oracle
    await oracle.close()
    await database.close()


async def forget_the_dead(place: Place) -> None:
    """A dead worker's lease would be waited for; here it is known that it is dead."""
    if place.broker.startswith("memory"):
        _logs[place.broker].leases.clear()
        return
    async with Redis.from_url(place.broker) as client:
        await client.delete(keys.lease(APP))


@pytest.mark.parametrize("point", POINTS)
async def test_killed(place: Place, oracle: Oracle, point: str) -> None:
    async with worker(point, time_of(point, "killed"), signal.SIGKILL, place) as killed:
        assert await ends(killed) == -signal.SIGKILL
    await forget_the_dead(place)
    async with living(place):
        await oracle.all_done()
    await oracle.still_all_done()


@pytest.mark.long
@pytest.mark.parametrize("point", POINTS)
async def test_stopped_and_going_on_when_an_heir_has_done_everything(
    place: Place, oracle: Oracle, point: str
) -> None:
    async with worker(point, time_of(point, "stopped"), signal.SIGSTOP, place) as zombie:
        await is_stopped(zombie)
        await forget_the_dead(place)
        async with living(place):
            await oracle.all_done()
        assert zombie.pid is not None
        os.kill(zombie.pid, signal.SIGCONT)
        assert await ends(zombie) == 0
    await oracle.still_all_done()


@pytest.mark.long
@pytest.mark.parametrize(("place", "point"), REDIS_AND_MEMORY, indirect=["place"])
async def test_cancelled(
    place: Place, oracle: Oracle, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled, before = asyncio.Event(), asyncio.all_tasks()
    time = time_of(point, "cancelled")
    monkeypatch.setattr(crash, "point", cancel_at(point, time, cancelled.set))

    async def live() -> None:
        async with living(place):
            await oracle.all_done()

    life = asyncio.create_task(live())
    await asyncio.wait_for(cancelled.wait(), PATIENCE)
    life.cancel()
    with suppress(asyncio.CancelledError):
        await life
    await cancel_the_rest(before)
    await forget_the_dead(place)
    async with living(place):
        await oracle.all_done()
    await oracle.still_all_done()


@pytest.mark.long
@pytest.mark.parametrize("kind", Trouble, ids=lambda kind: kind.value)
@pytest.mark.parametrize("server", ["redis", "postgres"])
@pytest.mark.parametrize("point", POINTS)
async def test_trouble(
    place: Place,
    oracle: Oracle,
    point: str,
    server: str,
    kind: Trouble,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await heals(place, oracle, point, server, kind, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("kind", Trouble, ids=lambda kind: kind.value)
@pytest.mark.parametrize("point", IN_MEMORY)
@pytest.mark.parametrize("place", ["memory"], indirect=True)
async def test_trouble_in_memory(
    place: Place, oracle: Oracle, point: str, kind: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    await heals(place, oracle, point, "postgres", kind, monkeypatch)


async def heals(
    place: Place,
    oracle: Oracle,
    point: str,
    server: str,
    kind: Trouble,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind is Trouble.STALLED:
        for name, value in WITH_STALLS.items():
            monkeypatch.setattr(name, value)
    happened = asyncio.Event()
    async with ways_to(place) as (through, proxies):

        def happen() -> None:
            trouble(kind, proxies[server])
            happened.set()

        time = time_of(point, f"{server} {kind.value}")
        monkeypatch.setattr(crash, "point", crash.at(point, happen, time=time))
        async with living(through):
            await oracle.all_done()
    assert happened.is_set()
    await oracle.still_all_done()
