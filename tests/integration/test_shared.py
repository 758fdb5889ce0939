"""Shared delivery: events go to whoever is free, on whichever worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, AsyncExitStack
from typing import Any
from uuid import uuid4

import faust
import pytest

from connectors.errors import TableNotShared
from connectors.postgres.database import Database
from connectors.processing.agent import Agent
from connectors.processing.retries import NO_RETRIES, Retries
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.integration.test_batches import sent_to

Work = Callable[[faust.App, Any], Any]


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    return "memory://" if request.param == "memory" else request.getfixturevalue("database_url")


def mailing(
    broker: str, store: str, work: Callable[[Any], Any], *, concurrency: int = 4, **options: Any
) -> tuple[faust.App, Any]:
    """An application whose agent does this with each event."""
    app = new_app(broker, store)
    letters = app.topic("letters", key_type=str)

    @app.agent(letters, name="mail", delivery="shared", concurrency=concurrency, **options)
    async def mail(stream: Any) -> None:
        async for event in stream.events():
            await work(event)

    return app, letters


async def lag(app: faust.App) -> int:
    statuses = await app.transport.broker.status("test/mail", "letters")  # type: ignore[attr-defined]
    return sum(partition.lag for partition in statuses)


async def test_all_instances_of_all_workers_work_at_a_time(
    any_broker_url: str, store: str
) -> None:
    """Four partitions, two workers with four instances each, all on the events of one key."""
    done: list[int] = []
    together = asyncio.Barrier(8)

    async def work(event: Any) -> None:
        await together.wait()
        done.append(event.value)

    async with AsyncExitStack() as workers:
        apps = [mailing(any_broker_url, store, work) for _ in range(2)]
        for app, _ in apps:
            await workers.enter_async_context(running(app))
        app, letters = apps[0]
        for number in range(24):
            await letters.send(key="one", value=number)
        async with asyncio.timeout(PATIENCE):
            await eventually(lambda: len(done) == 24)
            await eventually(lambda: _is(lag, app, 0))
    assert sorted(done) == list(range(24))


async def _is(count: Callable[[faust.App], Any], app: faust.App, expected: int) -> bool:
    return bool(await count(app) == expected)
