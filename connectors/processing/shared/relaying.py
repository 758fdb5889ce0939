"""Carries on what agents with shared delivery send.

They own no lane, so what they send goes into the outbox, as that of everybody's transactions does.
An application whose outbox nobody else looks after would wait for ever: so its workers do.
"""

from __future__ import annotations

import asyncio
import logging

import asyncpg
from faust.types import AppT

from connectors.brokers.broker import Broker
from connectors.errors import ConnectorError
from connectors.outbox.relay import Relay
from connectors.outbox.relay_member import attending
from connectors.postgres.database import Database
from connectors.processing.unsent import keep_unsent

RETRY_EVERY = 1.0
"""Seconds between two attempts while broker or database are away."""

logger = logging.getLogger(__name__)


async def relay(app: AppT, database: Database, broker: Broker, stop: asyncio.Event) -> None:
    """Be a relay, or a spare one, until ``stop``."""
    set_aside = keep_unsent(database, app.conf.id)
    relay = Relay(database, broker, set_aside=set_aside)
    while not stop.is_set():
        try:
            async with attending(broker, database, relay, app=app.conf.id):
                await relay.run(stop)
        except (ConnectorError, asyncpg.PostgresError) as error:
            logger.warning("Relaying waits: %s", error)
            await asyncio.sleep(RETRY_EVERY)
