"""The brokers that have to keep the contract."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import redis

from connectors.transports.broker import Broker
from connectors.transports.brokers import broker_by_url
from tests.redis_cluster import nodes


@pytest.fixture(params=["memory", "valkey", "redis", "sentinel", "cluster"])
def every_broker_url(request: pytest.FixtureRequest) -> str:
    """Each kind of broker, empty."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    servers = request.getfixturevalue("redis_url") if request.param == "sentinel" else url
    for server in nodes(servers):
        with redis.Redis.from_url(server) as client:
            client.flushall()
            client.script_flush()
    return url


@pytest.fixture
async def broker(every_broker_url: str) -> AsyncIterator[Broker]:
    """The same, open."""
    broker = broker_by_url(every_broker_url, default_partitions=2)
    await broker.open()
    yield broker
    await broker.close()


@pytest.fixture
async def another_broker(every_broker_url: str) -> AsyncIterator[Broker]:
    """Another way to the same broker, as another process has it."""
    broker = broker_by_url(every_broker_url, default_partitions=2)
    await broker.open()
    yield broker
    await broker.close()
