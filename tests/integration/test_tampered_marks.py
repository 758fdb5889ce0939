"""Whatever somebody does to the keys of a log, what was processed is not processed again."""

from __future__ import annotations

from typing import Any

import pytest
from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.redis import RedisBroker, keys
from redfaust.postgres.database import Database
from redfaust.processing.dead_letters import DeadLetters
from redfaust.processing.rejected import dead_letter_rejected
from redfaust.tables.manager import TableManager
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.outbox_streams import is_active
from tests.integration.outbox_streams import running as relaying
from tests.rights import as_administrator

PAYMENTS = TP("payments", 0)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.1)


@pytest.mark.parametrize("ruined", ["last sequences", "stream and last sequences", "stream"])
async def test_what_was_processed_is_neither_a_dead_letter_nor_processed_again(
    any_broker_url: str, database_url: str, ruined: str
) -> None:
    app = new_app(any_broker_url, database_url, partitions=1)
    assert isinstance(app.tables, TableManager)
    app.tables.runs_relay = False
    sums = app.Table("sums", key_type=str, value_type=int, default=int)
    seen: list[int] = []

    payments: Any = app.topic("payments", key_type=str, value_type=int)  # type: ignore[arg-type]

    @app.agent(payments)
    async def book(stream: Any) -> None:
        async for key, amount in stream.items():
            sums[key] += amount
            seen.append(amount)

    broker = RedisBroker(any_broker_url, default_partitions=1)
    await broker.open()
    client = Redis.from_url(as_administrator(any_broker_url))
    async with running(app):
        database = await Database.connect(database_url)

        async def publish(amount: int) -> None:
            await database.pool.execute(
                "SELECT redfaust.publish('payments', 'ann', to_jsonb($1::int))", amount
            )

        async def total() -> int:
            query = "SELECT coalesce(sum(value::int), 0) FROM test.sums"
            return int(await database.pool.fetchval(query))

        def relay() -> Any:
            keep = dead_letter_rejected(database, app.conf.id)
            return relaying(database, broker, dead_letter=keep, poll=0.05)

        async def adds_up_to(expected: int) -> bool:
            return await total() == expected

        async with relay():
            for amount in (100, 200, 240):
                await publish(amount)
            await eventually(lambda: adds_up_to(540))
        spoiled = [keys.producers(PAYMENTS)] if "last sequences" in ruined else []
        spoiled += [keys.stream(PAYMENTS)] if "stream" in ruined else []
        for key in spoiled:
            await client.set(key, "x")
        async with relay() as active:
            await is_active(active)
            await publish(1000)

            async def is_named() -> bool:
                return PAYMENTS in active.blocked

            await eventually(is_named)
            assert await DeadLetters(database).list() == []
            await client.delete(*spoiled)
            await publish(2000)
            await eventually(lambda: adds_up_to(3540))
        assert seen[3:] == [1000, 2000]
        assert await DeadLetters(database).list() == []
        await database.close()
    await client.aclose()
    await broker.close()
