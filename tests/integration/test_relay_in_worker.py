"""An application needs no other process: each of its workers runs a relay."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import faust
import pytest

from redfaust.brokers.redis import RedisBroker
from redfaust.errors import BrokerUnavailable
from redfaust.outbox.outbox import Outbox
from redfaust.outbox.relay import Relay
from redfaust.outbox.relay_member import GROUP
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.processing.dead_letters import DeadLetters
from redfaust.tables.manager import TableManager
from tests.integration.faust_apps import eventually, new_app, running
from tests.proxy import Proxy

STOPPED_WITHIN = 8.0
"""Seconds, less than what process managers give before they kill."""


def collecting(broker: str, store: str) -> tuple[faust.App, list[Any]]:
    app, seen = new_app(broker, store), []
    orders = app.topic("orders", key_type=str, value_type=str)

    @app.agent(orders)
    async def collect(stream: Any) -> None:
        async for value in stream:
            if value == "bad" and "mended" not in seen:
                raise ValueError(value)
            seen.append(value)

    return app, seen


async def test_what_is_published_and_scheduled_comes_with_a_worker_alone(
    any_broker_url: str, database_url: str
) -> None:
    database = await Database.connect(database_url)
    await migrate(database)
    app, seen = collecting(any_broker_url, database_url)
    async with running(app):
        async with Outbox(database).transaction() as tx:
            await tx.publish("orders", b'"published"', key="k")
            await tx.connection.execute("SELECT redfaust.publish('orders', 'k', '\"by sql\"')")
        await eventually(lambda: seen == ["published", "by sql"])
        topic: Any = app.topic("orders", key_type=str, value_type=str)
        await topic.schedule(
            at=datetime.now(UTC) + timedelta(seconds=0.2), key="k", value="scheduled"
        )
        await eventually(lambda: seen[2:] == ["scheduled"])
    await database.close()


async def test_a_replayed_dead_letter_comes_with_a_worker_alone(
    any_broker_url: str, database_url: str
) -> None:
    app, seen = collecting(any_broker_url, database_url)
    async with running(app):
        await app.topic("orders", key_type=str, value_type=str).send(key="k", value="bad")
        database = await Database.connect(database_url)
        letters = DeadLetters(database)

        async def waits() -> bool:
            return bool(await letters.waiting())

        await eventually(waits)
        seen.append("mended")
        await letters.replay(await letters.waiting())
        await eventually(lambda: seen == ["mended", "bad"])
        await database.close()


async def test_a_worker_that_runs_no_relay_leaves_the_outbox_alone(
    any_broker_url: str, database_url: str
) -> None:
    app, seen = collecting(any_broker_url, database_url)
    assert isinstance(app.tables, TableManager)
    app.tables.runs_relay = False
    async with running(app):
        database = await Database.connect(database_url)
        await database.pool.execute("SELECT redfaust.publish('orders', 'k', '\"later\"')")
        await app.topic("orders", key_type=str, value_type=str).send(key="k", value="now")
        await eventually(lambda: seen == ["now"])
        assert await database.pool.fetchval("SELECT count(*) FROM redfaust.outbox") == 1
        await database.close()


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, *, until_try: int) -> list[None]:
    """Have relays fail until a try; returns the tries so far."""
    monkeypatch.setattr("redfaust.processing.relaying.RETRY_EVERY", 0.01)
    run, tries = Relay.run, list[None]()

    async def fail(self: Relay, stop: asyncio.Event) -> None:
        tries.append(None)
        if len(tries) < until_try:
            raise error
        await run(self, stop)

    monkeypatch.setattr(Relay, "run", fail)
    return tries


async def test_whatever_goes_wrong_with_the_outbox_stops_no_agent(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, ValueError("a row that nobody has thought of"), until_try=3)
    app, seen = collecting(any_broker_url, database_url)
    async with running(app):
        await app.topic("orders", key_type=str, value_type=str).send(key="k", value="now")
        await eventually(lambda: seen == ["now"])
        database = await Database.connect(database_url)
        await database.pool.execute("SELECT redfaust.publish('orders', 'k', '\"later\"')")
        await eventually(lambda: seen == ["now", "later"])
        await database.close()
    assert not app.crashed


async def test_a_worker_waits_neither_for_its_relay_nor_for_a_database_that_hangs(
    any_broker_url: str, database_url: str
) -> None:
    parts = urlsplit(database_url)
    assert parts.port is not None
    async with Proxy(parts.port).listening() as proxy:
        way = parts.netloc.replace(str(parts.port), str(proxy.port))
        app, seen = collecting(any_broker_url, urlunsplit(parts._replace(netloc=way)))
        await app.start()
        try:
            await app.topic("orders", key_type=str, value_type=str).send(key="k", value="now")
            await eventually(lambda: seen == ["now"])
            proxy.hold()
        finally:
            await asyncio.wait_for(app.stop(), STOPPED_WITHIN)
            proxy.let_go()


async def test_the_relay_of_a_worker_is_known_as_one_until_it_stops(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = failing(monkeypatch, BrokerUnavailable("away for a moment"), until_try=50)
    app, _ = collecting(any_broker_url, database_url)
    broker = RedisBroker(any_broker_url, default_partitions=1)
    await broker.open()
    async with running(app):
        await eventually(lambda: len(tries) == 50)
        [heartbeat] = (await broker.group_state(GROUP)).heard().values()
        assert heartbeat.info["app"] == "test"
    group_state = await broker.group_state(GROUP)
    assert (group_state.assignment.members, group_state.heard()) == ((), {})
    assert not group_state.assignment.lost
    await broker.close()
