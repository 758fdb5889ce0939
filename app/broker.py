"""The broker that the settings name, for whoever is no Faust application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.settings import Settings
from connectors.brokers.broker import Broker
from connectors.transports.by_url import broker_by_url


@asynccontextmanager
async def open_broker(settings: Settings) -> AsyncIterator[Broker]:
    """Connect, and disconnect afterwards. Raises :class:`~connectors.errors.BrokerError`."""
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


async def topics_of(broker: Broker, app: str) -> list[str]:
    """The topics of an application, in order: all but those that others alone have joined.

    One that nobody has joined yet is anybody's: what lies there may wait for us.
    """
    joined = await broker.groups(await broker.topics())
    return sorted(
        topic
        for topic, groups in joined.items()
        if not groups or app in {group.partition("/")[0] for group in groups}
    )
