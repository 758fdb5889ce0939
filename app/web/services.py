"""What the web API works with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.broker import open_broker
from app.settings import Settings
from app.status.snapshot import Cause, Unknown
from app.status.sources import Sources
from redfaust.brokers.broker import Broker
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database


@dataclass(frozen=True, slots=True)
class Services:
    """Open connections. Commands need the database alone: their events leave by the outbox."""

    database: Database
    outbox: Outbox
    broker: Broker | None
    """Only asked for the status; ``None`` where there is no way to it."""

    @property
    def sources(self) -> Sources:
        """Where the status comes from."""
        no_broker = Unknown(Cause.AWAY, "this process is not connected to the broker")
        return Sources(no_broker if self.broker is None else self.broker, self.database)


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Connect, and disconnect afterwards. Raises :class:`~redfaust.errors.RedfaustError`."""
    database = await Database.connect(settings.database.get_secret_value())
    try:
        async with open_broker(settings) as broker:
            yield Services(database, Outbox(database), broker)
    finally:
        await database.close()
