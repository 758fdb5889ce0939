"""Ways to die, or to nearly die, at a point."""

from __future__ import annotations

import asyncio
import enum
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import TypeVar
from urllib.parse import urlsplit

import pytest

from redfaust import failpoints
from redfaust.brokers.redis.client import COMMANDS, READS
from redfaust.postgres.database import Database
from tests.crashes.oracle import Oracle
from tests.crashes.scenario import IMPATIENT, PATIENCE, Place, living
from tests.proxy import Proxy

SEED = os.environ.get("CRASH_SEED", "3")
"""With another one, points are passed another number of times before it happens, and other servers
are chosen."""

T = TypeVar("T")

LOOK_EVERY = 0.01

STALL = 0.5
"""Seconds for which a server hangs: longer than its clients wait then."""

WITH_STALLS = {
    "redfaust.postgres.database.ACQUIRE_TIMEOUT": 0.3,
    "redfaust.postgres.database.COMMAND_TIMEOUT": 0.3,
    "redfaust.postgres.hosts.CONNECT_TIMEOUT": 0.3,
    "redfaust.brokers.redis.reader.REPLY_TIMEOUT": 0.1,
    "redfaust.brokers.redis.servers.COMMANDS": {
        **COMMANDS,
        "socket_connect_timeout": 0.3,
        "socket_timeout": 0.3,
    },
    "redfaust.brokers.redis.servers.READS": {**READS, "socket_connect_timeout": 0.3},
}
"""How long clients wait then."""

RARE = {
    "shares.written": 1,
    "shares.left": 1,
    "rebalance.revoked": 2,
    "commit.taken": 2,
    "outbox.taken_over": 2,
    "rebalance.taken": 2,
    "tables.loaded": 2,
    "rebalance.assigned": 2,
    "outbox.deleted": 1,
    "outbox.dead_lettered": 1,
    "shared.given_back": 1,
    "shared.claimed_stale": 1,
}
"""Points that are not passed more often, from the start of a worker to its end."""

OFTEN = 3
"""How often all others are passed at least."""


def time_of(point: str, way: str) -> int:
    """At which of its passages it happens: drawn, and the same each time."""
    return draw(range(1, RARE.get(point, OFTEN) + 1), point, way)


def draw(choices: Sequence[T], *what: str) -> T:
    """One of these, and the same each time that this is asked."""
    return Random(" ".join((SEED, *what))).choice(choices)


class Trouble(enum.Enum):
    """What can happen between a worker and a server."""

    CUT = "cut"
    STALLED = "stalled"
    ANSWER_LOST = "answer lost"


def trouble(kind: Trouble, way: Proxy) -> None:
    """Make it happen, from now on."""
    match kind:
        case Trouble.CUT:
            way.cut()
        case Trouble.ANSWER_LOST:
            way.lose_answers()
        case Trouble.STALLED:
            way.hold()
            asyncio.get_running_loop().call_later(STALL, way.let_go)


@asynccontextmanager
async def ways_to(place: Place) -> AsyncIterator[tuple[Place, dict[str, Proxy]]]:
    """The same place, reached through proxies, by the name of the server."""
    async with AsyncExitStack() as stack:
        proxies = {}
        urls = []
        for name, url in (("redis", place.broker), ("postgres", place.database)):
            port = urlsplit(url).port
            if port is None:  # memory
                urls.append(url)
                continue
            proxies[name] = await stack.enter_async_context(Proxy(port).listening())
            urls.append(url.replace(f":{port}", f":{proxies[name].port}"))
        yield Place(*urls), proxies


# -- in a process of its own -----------------------------------------------------------------

# Processes forked from one that has imported everything: each start saves 1.5 seconds.
_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload([__name__])


def _live(point: str, time: int, sign: signal.Signals, place: Place) -> None:
    for name, value in IMPATIENT.items():
        pytest.MonkeyPatch().setattr(name, value)
    failpoints.point = failpoints.at(point, lambda: os.kill(os.getpid(), sign), time=time)

    async def live() -> None:
        oracle = Oracle(place, await Database.connect(place.database))
        async with living(place):
            await oracle.all_done()

    asyncio.run(live())


@asynccontextmanager
async def worker(
    point: str, time: int, sign: signal.Signals, place: Place
) -> AsyncIterator[multiprocessing.process.BaseProcess]:
    """A worker that sends itself a signal at a point, and otherwise ends when all is done."""
    process = _fork.Process(target=_live, args=(point, time, sign, place))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


async def ends(process: multiprocessing.process.BaseProcess) -> int | None:
    """Its exit code."""
    await asyncio.to_thread(process.join, PATIENCE)
    return process.exitcode


async def is_stopped(process: multiprocessing.process.BaseProcess) -> None:
    """Return when it has been stopped by a signal."""
    status = Path(f"/proc/{process.pid}/stat")
    async with asyncio.timeout(PATIENCE):
        # Nobody tells a process that is not its parent by wait.
        while status.read_text().rpartition(")")[2].split()[0] != "T":  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(LOOK_EVERY)


# -- in this process -------------------------------------------------------------------------


def cancel_at(point: str, time: int, then: Callable[[], None]) -> Callable[[str], None]:
    """A :data:`~redfaust.failpoints.point` that cancels the task that passes it."""

    def cancel() -> None:
        task = asyncio.current_task()
        if task is not None:  # otherwise the loop itself calls, which nobody can cancel
            task.cancel()
        then()

    return failpoints.at(point, cancel, time=time)


async def cancel_the_rest(before: set[asyncio.Task[object]]) -> None:
    """What the end of a process does to tasks that are left over."""
    left = asyncio.all_tasks() - before
    for task in left:
        task.cancel()
    await asyncio.wait_for(asyncio.gather(*left, return_exceptions=True), PATIENCE)
