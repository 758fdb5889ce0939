"""The brokers that have to keep the contract."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import redis

from connectors.transports.broker import Broker
from connectors.transports.brokers import broker_by_url


@pytest.fixture(params=["memory", "valkey", "redis"])
def any_broker_url(request: pytest.FixtureRequest) -> str:
    """A broker that holds nothing."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
async def broker(any_broker_url: str) -> AsyncIterator[Broker]:
    """The same, open."""
    broker = broker_by_url(any_broker_url, default_partitions=2)
    await broker.open()
    yield broker
    await broker.close()
