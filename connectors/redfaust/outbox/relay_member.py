"""Relays as members of a group, so that it is known which of them should be there."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from redfaust.brokers.attendance import Attendance
from redfaust.brokers.broker import Broker
from redfaust.outbox.relay import Relay
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.queries import load

GROUP = "redfaust.relays"
"""The group of all relays that publish to a broker, of whichever database."""


async def database_identity(connection: Connection) -> str:
    """A name that no other database has: relays of a database have it in common."""
    return str(await connection.fetchval(load("redfaust.outbox", "select_database")))


@asynccontextmanager
async def attending(
    broker: Broker, database: Database, relay: Relay, *, app: str, name: str | None = None
) -> AsyncIterator[None]:
    """Be known as a relay of a database during the block.

    ``name`` is by default made of host and process; a worker gives its own. Raises
    :class:`~redfaust.errors.DatabaseError`.
    """
    async with database.transaction() as connection:
        identity = await database_identity(connection)
    started_at = datetime.now(UTC).isoformat()

    def info() -> Mapping[str, object]:
        return {
            "role": "active" if relay.active else "spare",
            "app": app,
            "database": identity,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started_at": started_at,
        }

    name = name or f"relay-{socket.gethostname()}-{os.getpid()}"
    attendance = asyncio.create_task(Attendance(broker, GROUP, name, info).run())
    try:
        yield
    finally:
        attendance.cancel()
        with suppress(asyncio.CancelledError):
            await attendance
