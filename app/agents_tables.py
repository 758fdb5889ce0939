"""The tables of the shop's agents, created before its workers start."""

from __future__ import annotations

from typing import cast

from app.schema import SHOP
from app.settings import Settings
from app.shop import create_shop
from redfaust.postgres.database import Database
from redfaust.tables.manager import TableManager
from redfaust.tables.store import PostgresStore


async def create_agents_tables(database: Database, settings: Settings) -> list[str]:
    """Create what is missing of the shop's agents' tables and return their names, as
    ``tables/name``.

    Workers do it too when they start, if they may. The tables of another application are not known
    here. Raises :class:`~redfaust.errors.RightsMissing`.
    """
    if settings.app_id != SHOP:
        return []
    tables = cast("TableManager", create_shop(settings).tables).postgres_tables()
    async with database.transaction() as connection:
        return [
            f"tables/{table.name}"
            for table in tables
            if await cast("PostgresStore", table.data).create(connection)
        ]
