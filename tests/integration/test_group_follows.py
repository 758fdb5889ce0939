"""The broker's group follows what is committed, also what it could not follow at first."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import faust
import pytest
from faust.types import TP

from redfaust.brokers.broker import Advance
from redfaust.brokers.memory.broker import MemoryBroker
from redfaust.errors import BrokerUnavailable
from redfaust.postgres.database import Database
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished


class Away:
    """Refuses the first attempts to move a group."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, attempts: int) -> None:
        self.left = attempts
        move = MemoryBroker.commit

        async def commit(broker: MemoryBroker, group: str, advances: Mapping[TP, Advance]) -> None:
            if self.left:
                self.left -= 1
                raise BrokerUnavailable("away")
            await move(broker, group, advances)

        monkeypatch.setattr(MemoryBroker, "commit", commit)


def summing_app(broker: str, store: str) -> tuple[faust.App, Any]:
    app = new_app(broker, store)
    numbers = app.topic("numbers", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=int, default=int)

    @app.agent(numbers)
    async def add(stream: Any) -> None:
        async for key, number in stream.items():
            sums[key] += number

    return app, numbers


async def test_it_follows_while_nothing_more_comes(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(monkeypatch, attempts=2)
    app, numbers = summing_app(f"memory://{uuid.uuid4().hex}", database_url)
    async with running(app):
        await numbers.send(key="a", value=1)
        await eventually(lambda: all_finished(app))
    assert away.left == 0


async def test_it_follows_when_partitions_are_taken(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    away = Away(monkeypatch, attempts=1_000)
    app, numbers = summing_app(url, database_url)
    async with running(app):
        await numbers.send(key="a", value=1)
        await eventually(lambda: _is_committed(database_url))
    away.left = 0
    heir, _ = summing_app(url, database_url)
    async with running(heir):
        await eventually(lambda: all_finished(heir))


async def _is_committed(database_url: str) -> bool:
    database = await Database.connect(database_url)
    found = await database.pool.fetchval("SELECT count(*) FROM test.sums")
    await database.close()
    return bool(found)
