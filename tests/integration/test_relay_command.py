"""``redfaust relay`` goes on by itself once what was wrong is mended."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from pydantic import SecretStr

from app.cli import relay
from app.settings import Settings
from redfaust.brokers.redis import RedisBroker
from redfaust.outbox.relay import CHANNEL
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from tests.integration.outbox_streams import drained, eventually
from tests.rights import as_relay


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.backoff.FIRST", 0.05)
    monkeypatch.setattr("app.backoff.LONGEST", 0.05)


async def test_a_relay_waits_for_the_schema_and_for_its_rights(
    any_broker_url: str, empty_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    url = as_relay(empty_database_url)
    settings = Settings(broker=SecretStr(any_broker_url), database=SecretStr(url))
    running = asyncio.create_task(relay._run(settings))
    database = await Database.connect(empty_database_url)

    async def waits_for(what: str) -> bool:
        assert not running.done()
        return any(what in record.message for record in caplog.records)

    try:
        await eventually(lambda: waits_for("does not exist"))
        await migrate(database)
        await database.pool.execute("SELECT redfaust.publish('orders', 'k', '1')")
        await drained(database)
        await database.pool.execute("ALTER TABLE redfaust.outbox RENAME TO elsewhere")
        await database.pool.execute(f"NOTIFY {CHANNEL}")
        await eventually(lambda: waits_for('"redfaust.outbox" does not exist'))
        await database.pool.execute("ALTER TABLE redfaust.elsewhere RENAME TO outbox")
        await database.pool.execute("SELECT redfaust.publish('orders', 'k', '2')")
        await drained(database)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await database.close()
    broker = RedisBroker(any_broker_url, default_partitions=1)
    assert sum((await broker.topics()).values()) > 0
    await broker.close()
    told = [record for record in caplog.records if "trying again" in record.message]
    assert told
    assert all("\n" not in record.message for record in told)
    assert not any(record.exc_info for record in told)
