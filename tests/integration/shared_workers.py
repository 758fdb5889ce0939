"""Processes that share a topic's events, and wait in each of them for what the test says.

What happens is told through Redis: a worker that begins an event says so, and goes on when it is
released.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

import faust
import pytest
from redis.asyncio import Redis

from redfaust.processing.shared.in_flight import message_of
from tests.integration import faust_apps
from tests.rights import as_administrator

APP = "processes"
GROUP = f"{APP}/mail"
PARTITIONS = 4
PATIENCE = 20.0
CLAIM = 1.0
"""Seconds until the claims of a silent worker end in these tests."""

IMPATIENT: Mapping[str, float] = {
    "redfaust.outbox.relay.SILENT_FOR": CLAIM,
    "redfaust.processing.shared.delivery.RENEW_EVERY": CLAIM / 5,
    "redfaust.processing.shared.delivery.TAKE_OVER_EVERY": CLAIM / 10,
    "redfaust.brokers.redis.share_group.CLAIM_FOR": CLAIM,
    "redfaust.brokers.share_group.CLAIM_FOR": CLAIM,
}


class Place(NamedTuple):
    """The servers."""

    broker: str
    database: str


class Begun(NamedTuple):
    """A worker has begun an event."""

    pid: int
    number: int
    deliveries: int


class Handler:
    """The test's hand on what the workers do."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def next_begun(self) -> Begun:
        """What is begun next, or has been and was not asked for."""
        answer = await cast("Any", self._client.blpop(["begun"], timeout=int(PATIENCE)))
        assert answer is not None, "nothing is begun"
        return Begun(*map(int, answer[1].split()))

    async def release(self, begun: Begun) -> None:
        """Let a worker finish an event."""
        await cast("Any", self._client.rpush(f"release:{begun.pid}:{begun.number}", 1))

    async def has_finished(self, begun: Begun) -> None:
        """Return when a worker is at the end of its function for an event."""
        key = f"finished:{begun.pid}:{begun.number}"
        assert await cast("Any", self._client.blpop([key], timeout=int(PATIENCE))) is not None


def new_app(place: Place, concurrency: int) -> faust.App:
    app = faust_apps.new_app(place.broker, place.database, name=APP, partitions=PARTITIONS)
    letters = app.topic("letters", key_type=str)
    receipts = app.topic("receipts", key_type=str)
    client = Redis.from_url(as_administrator(place.broker), socket_timeout=None)

    @app.agent(letters, name="mail", delivery="shared", concurrency=concurrency)
    async def mail(stream: Any) -> None:
        async for event in stream.events():
            mine = f"{os.getpid()}:{event.value}"
            deliveries = message_of(event).deliveries
            await receipts.send(key=event.key, value=event.value)
            await cast("Any", client.rpush("begun", f"{os.getpid()} {event.value} {deliveries}"))
            await cast("Any", client.blpop([f"release:{mine}"], timeout=0))
            await cast("Any", client.rpush(f"finished:{mine}", 1))

    return app


_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload([__name__])


def _live(place: Place, concurrency: int) -> None:
    for name, value in IMPATIENT.items():
        pytest.MonkeyPatch().setattr(name, value)

    async def live() -> None:
        async with new_app(place, concurrency):
            await asyncio.Event().wait()

    asyncio.run(live())


@asynccontextmanager
async def worker(
    place: Place, *, concurrency: int
) -> AsyncIterator[multiprocessing.process.BaseProcess]:
    """A worker, until it is killed."""
    process = _fork.Process(target=_live, args=(place, concurrency))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
