"""Whether the shop can work."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from app.settings import Settings
from app.web.services import Services
from connectors.brokers.broker import Broker
from connectors.errors import ConnectorError
from connectors.postgres.database import Database
from connectors.postgres.queries import load

PATIENCE = 3.0
"""Seconds after which a broker or a database that does not answer counts as unreachable."""


async def reasons_against(services: Services, settings: Settings) -> tuple[str, ...]:
    """What is missing; nothing if the shop is ready.

    Names no address: whoever may ask for health need not know where the servers are.
    """
    reasons = await asyncio.gather(
        _reason("the broker", _workers(services.broker, settings.app_id)),
        _reason("the database", _may_publish(services.database)),
    )
    return tuple(reason for reason in reasons if reason is not None)


async def _reason(name: str, asking: Coroutine[None, None, str | None]) -> str | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await asking
    except (TimeoutError, ConnectorError):
        return f"{name} cannot be reached"


async def _workers(broker: Broker | None, group: str) -> str | None:
    if broker is None:
        return "this process is not connected to the broker"
    return None if (await broker.roll(group)).heard() else "no worker is running"


async def _may_publish(database: Database) -> str | None:
    async with database.transaction() as connection:
        match await connection.fetchval(load("app", "may_publish")):
            case None:
                return "the database is not migrated: run `redfaust migrate`"
            case False:
                return "the role in the database lacks INSERT on redfaust.outbox: grant it"
            case _:
                return None
