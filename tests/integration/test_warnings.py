"""A worker says at its start how its servers may lose what they have confirmed."""

from __future__ import annotations

from typing import Any, cast

import pytest
import redis.asyncio as redis

from redfaust.brokers.redis.broker import RedisBroker
from redfaust.postgres.database import Database
from tests.integration.faust_apps import eventually, new_app, running
from tests.rights import as_administrator


async def test_a_worker_warns_once_and_tells_the_others(
    empty_valkey_url: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app(empty_valkey_url, database_url)
    server: Any = redis.Redis.from_url(as_administrator(empty_valkey_url))
    before = {name: (await server.config_get(name))[name] for name in ("maxmemory-policy", "save")}
    try:
        await server.config_set("maxmemory-policy", "allkeys-lru")
        async with running(app):
            consumer = cast("Any", app.consumer)
            await eventually(lambda: bool(consumer.warnings))
            said = [warning for warning in consumer.warnings if "allkeys-lru" in warning]
            assert len(said) == 1
            assert consumer._introduce()["warnings"] == list(consumer.warnings)
    finally:
        for name, setting in before.items():
            await server.config_set(name, setting)
        await server.aclose()
    assert sum("allkeys-lru" in record.getMessage() for record in caplog.records) == 1


async def test_a_broker_that_keeps_nothing_on_disk_says_so(empty_valkey_url: str) -> None:
    server: Any = redis.Redis.from_url(as_administrator(empty_valkey_url), decode_responses=True)
    before = {name: (await server.config_get(name))[name] for name in ("appendonly", "save")}
    broker = RedisBroker(as_administrator(empty_valkey_url), default_partitions=4)
    await broker.open()
    try:
        await server.config_set("appendonly", "no")
        await server.config_set("save", "")
        assert any("keeps nothing on disk" in line for line in await broker.warnings())
        await server.config_set("save", "3600 1")
        assert await broker.warnings() == []
    finally:
        for name, setting in before.items():
            await server.config_set(name, setting)
        await broker.close()
        await server.aclose()


async def test_a_database_that_does_not_sync_says_so(database_url: str) -> None:
    database = await Database.connect(database_url)  # of this test run, which needs not
    warnings = await database.warnings()
    await database.close()
    assert any("fsync=off" in warning for warning in warnings)
    assert not any("standby" in warning for warning in warnings)
