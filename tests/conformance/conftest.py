"""The brokers that have to keep the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from connectors.transports.broker import Broker
from connectors.transports.brokers import broker_by_url


@pytest.fixture
async def broker(any_broker_url: str) -> AsyncIterator[Broker]:
    """The same, open."""
    broker = broker_by_url(any_broker_url, default_partitions=2)
    await broker.open()
    yield broker
    await broker.close()
