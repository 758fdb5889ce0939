"""The database's schema: the connectors' tables, then the shop's."""

from __future__ import annotations

from importlib import resources

from connectors.postgres.database import Database
from connectors.postgres.migrate import migrate, migrate_connectors


async def migrate_all(database: Database) -> list[str]:
    """Apply what is missing and return the names, as ``namespace/name``.

    Raises :class:`~connectors.errors.SchemaTooNew` for a database that a newer release migrated.
    """
    shop = resources.files("app").joinpath("migrations")
    return [f"connectors/{name}" for name in await migrate_connectors(database)] + [
        f"shop/{name}" for name in await migrate(database, "shop", shop)
    ]
