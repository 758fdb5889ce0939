"""Reading the agents' tables by SQL."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from redfaust.postgres.database import Connection


async def read(connection: Connection, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
    """Rows of a query over the agents' tables; none while no worker has ever made them."""
    try:
        async with connection.transaction():  # a savepoint: the caller's transaction goes on
            return await connection.fetch(query, *arguments)
    except asyncpg.UndefinedTableError:
        return []
