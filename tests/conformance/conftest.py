"""The brokers that have to keep the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from connectors.transports.broker import Broker
from connectors.transports.brokers import broker_by_url


@pytest.fixture
async def broker(every_broker_url: str) -> AsyncIterator[Broker]:
    """One of them, empty and open."""
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
