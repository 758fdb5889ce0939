"""An application needs no other process: each of its workers runs a relay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import faust

from connectors.outbox.outbox import Outbox
from connectors.postgres.database import Database
from connectors.postgres.migrate import migrate_connectors
from connectors.processing.dead_letters import DeadLetters
from connectors.tables.manager import TableManager
from tests.integration.faust_apps import eventually, new_app, running


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
    await migrate_connectors(database)
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
