"""The brokers that have to keep the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from redfaust.brokers.broker import Broker
from redfaust.transports.by_url import broker_by_url


@pytest.fixture
def beside(every_broker_url: str, request: pytest.FixtureRequest) -> str | None:
    """The database beside the broker, where it needs one."""
    if not every_broker_url.startswith("kafka"):
        return None
    return str(request.getfixturevalue("kafka_store_url"))


@pytest.fixture
async def broker(every_broker_url: str, beside: str | None) -> AsyncIterator[Broker]:
    """One of them, empty and open."""
    broker = broker_by_url(every_broker_url, default_partitions=2, store=beside)
    await broker.open()
    yield broker
    await broker.close()


@pytest.fixture
async def another_broker(every_broker_url: str, beside: str | None) -> AsyncIterator[Broker]:
    """Another way to the same broker, as another process has it."""
    broker = broker_by_url(every_broker_url, default_partitions=2, store=beside)
    await broker.open()
    yield broker
    await broker.close()
