"""A worker dies at every named point, in every way: everything is done once all the same."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

import redfaust
from redfaust import failpoints
from redfaust.brokers.memory.broker import _logs
from redfaust.brokers.redis import keys
from redfaust.postgres.database import Database
from tests.crashes.oracle import Oracle
from tests.crashes.scenario import APP, PATIENCE, Place, living
from tests.crashes.ways import (
    WITH_STALLS,
    Trouble,
    cancel_at,
    cancel_the_rest,
    draw,
    ends,
    is_stopped,
    time_of,
    trouble,
    ways_to,
    worker,
)
from tests.rights import as_administrator

ELSEWHERE = {
    "shares.handed_over": "tests/integration/test_workers.py",
    "producers.appended": "tests/integration/test_kafka.py",
    "outbox.restored": "tests/integration/test_set_back.py",
    "alteration.closed": "tests/integration/test_alteration.py",
    "alteration.committed": "tests/integration/test_alteration.py",
    "reset.left": "tests/integration/test_reset.py",
    "mail.taken": "tests/integration/test_recorded_mail.py",
    "mail.recorded": "tests/integration/test_recorded_mail.py",
}
"""What this scenario does not come to, and who tests it."""

POINTS = [point for point in failpoints.POINTS if point not in ELSEWHERE]
IN_MEMORY = [point for point in POINTS if point != "outbox.dead_lettered"]

WHILE_STOPPING = {"shared.given_back"}
"""Passed while the application stops: Faust starts agents that are cancelled then again."""

CANCELLED = [
    (draw(["redis", "memory"] if point in IN_MEMORY else ["redis"], "cancelled", point), point)
    for point in POINTS
    if point not in WHILE_STOPPING
]
"""Where it is cancelled: the broker is drawn."""


def _troubles() -> Iterator[tuple[str, str, str, Trouble]]:
    for kind in Trouble:
        for point in POINTS:
            ways = [("redis", "redis"), ("redis", "postgres")]
            if point in IN_MEMORY:
                ways.append(("memory", "postgres"))
            broker, server = draw(ways, point, kind.value)
            yield broker, point, server, kind


TROUBLES = list(_troubles())
"""The broker, and on the way to which server it happens: drawn."""


async def forget_the_dead(place: Place) -> None:
    """A dead worker's silence would be waited for; here it is known that it is dead."""
    if place.broker.startswith("memory"):
        _logs[place.broker].registries.clear()
        return
    async with Redis.from_url(as_administrator(place.broker)) as client:
        await client.delete(keys.assignment(APP), keys.heartbeats(APP))


async def end_long_transactions(place: Place) -> None:
    """A process that is stopped between the preparation of a statement and its execution counts as
    active, and not as silent. Postgres 17 and newer can be told to end its session too."""
    database = await Database.connect(as_administrator(place.database))
    name = urlsplit(place.database).path.removeprefix("/")
    await database.pool.execute(f"ALTER DATABASE {name} SET transaction_timeout = '1s'")
    await database.close()


# `make test` has every second one, `make test-long` the others.
SOME_OF_THEM = [
    pytest.param(point, marks=() if place % 2 else pytest.mark.long)
    for place, point in enumerate(POINTS)
]


@pytest.mark.parametrize("point", SOME_OF_THEM)
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
    await end_long_transactions(place)
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
@pytest.mark.parametrize(("place", "point"), CANCELLED, indirect=["place"])
async def test_cancelled(
    place: Place, oracle: Oracle, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled, before = asyncio.Event(), asyncio.all_tasks()
    time = time_of(point, "cancelled")
    monkeypatch.setattr(failpoints, "point", cancel_at(point, time, cancelled.set))

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
@pytest.mark.parametrize(
    ("place", "point", "server", "kind"),
    TROUBLES,
    indirect=["place"],
    ids=[f"{point} {kind.value} {server} ({broker})" for broker, point, server, kind in TROUBLES],
)
async def test_trouble(
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
        monkeypatch.setattr(failpoints, "point", failpoints.at(point, happen, time=time))
        async with living(through):
            await oracle.all_done()
    assert happened.is_set()
    await oracle.still_all_done()


def test_every_point_is_named_here_and_nowhere_twice() -> None:
    named = [
        name
        for path in Path(redfaust.__file__).parent.rglob("*.py")
        for name in re.findall(r"failpoints\.point\(\"([^\"]+)\"\)", path.read_text())
    ]
    assert sorted(named) == sorted(failpoints.POINTS)
    for name, path in ELSEWHERE.items():
        assert name in Path(path).read_text()
