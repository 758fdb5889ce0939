"""The broker that the settings name, for whoever is no Faust application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.settings import Settings
from redfaust.brokers.broker import Broker
from redfaust.transports.by_url import broker_by_url


@asynccontextmanager
async def open_broker(settings: Settings) -> AsyncIterator[Broker]:
    """Connect, and disconnect afterwards. Raises :class:`~redfaust.errors.BrokerError`."""
    broker = broker_by_url(
        settings.broker.get_secret_value(),
        default_partitions=settings.partitions,
        store=settings.database.get_secret_value(),
    )
    try:
        await broker.open()
        yield broker
    finally:
        await broker.close()
