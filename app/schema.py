"""The database's schema: the connectors' tables, then the shop's, then its agents'."""

from __future__ import annotations

from importlib import resources
from typing import cast

from app.settings import Settings
from app.shop import create_shop
from connectors.postgres.database import Database
from connectors.postgres.migrate import migrate, migrate_connectors
from connectors.tables.manager import TableManager
from connectors.tables.store import PostgresStore


async def migrate_all(database: Database) -> list[str]:
    """Apply what is missing and return the names, as ``namespace/name``.

    Raises :class:`~connectors.errors.SchemaTooNew` for a database that a newer release migrated,
    and :class:`~connectors.errors.RightsMissing` if something is missing that this role may not
    create.
    """
    shop = resources.files("app").joinpath("migrations")
    return [f"connectors/{name}" for name in await migrate_connectors(database)] + [
        f"shop/{name}" for name in await migrate(database, "shop", shop)
    ]


async def create_agents_tables(database: Database, settings: Settings) -> list[str]:
    """Create what is missing of the agents' tables and return their names, as ``tables/name``.

    Workers do it when they start, if they may. Raises :class:`~connectors.errors.RightsMissing`.
    """
    tables = cast("TableManager", create_shop(settings).tables).postgres_tables()
    async with database.transaction() as connection:
        return [
            f"tables/{table.name}"
            for table in tables
            if await cast("PostgresStore", table.data).create(connection)
        ]
