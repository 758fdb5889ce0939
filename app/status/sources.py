"""Where the status comes from: a broker and a database, either of which may be away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from app.settings import Settings
from app.status.asking import unknown
from app.status.snapshot import Cause, Known, Unknown
from redfaust.brokers.broker import Broker
from redfaust.errors import RedfaustError
from redfaust.postgres.database import Database
from redfaust.transports.by_url import broker_by_url

CONNECT_WITHIN = 3.0
"""Seconds until a server that does not answer counts as unreachable."""
CLOSE_WITHIN = 1.0
"""Seconds that disconnecting may take."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Open connections, or why there are none."""

    broker: Known[Broker]
    database: Known[Database]


@asynccontextmanager
async def open_sources(settings: Settings) -> AsyncIterator[Sources]:
    """Connect to what is there, and disconnect afterwards. Never raises because something is not.

    For a process that asks once: it does not wait for servers that hang.
    """
    broker = broker_by_url(
        settings.broker.get_secret_value(),
        default_partitions=settings.partitions,
        store=settings.database.get_secret_value(),
    )
    opened, database = await asyncio.gather(_open(broker), _connect(settings))
    try:
        yield Sources(opened, database)
    finally:
        with suppress(RedfaustError, TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await broker.close()
        if not isinstance(database, Unknown):
            database.pool.terminate()


async def _open(broker: Broker) -> Known[Broker]:
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            await broker.open()
    except TimeoutError:
        return Unknown(Cause.AWAY, f"it has not answered within {CONNECT_WITHIN:.0f} s")
    except RedfaustError as error:
        return unknown(error)
    return broker


async def _connect(settings: Settings) -> Known[Database]:
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            return await Database.connect(
                settings.database.get_secret_value(), application_name="redfaust status"
            )
    except TimeoutError:
        return Unknown(Cause.AWAY, f"it has not answered within {CONNECT_WITHIN:.0f} s")
    except RedfaustError as error:
        return unknown(error)
