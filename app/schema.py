"""The database's schema: the connectors' tables, and those of the shop in its own database."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from connectors.postgres.database import Database
from connectors.postgres.migrate import migrate, migrate_connectors

SHOP = "shop"
"""The application that has tables of its own here. Any other one gets redfaust's alone."""


async def migrate_all(database: Database, app: str = SHOP) -> list[str]:
    """Apply what an application is missing and return the names, as ``namespace/name``.

    Raises :class:`~connectors.errors.SchemaTooNew` for a database that a newer release migrated,
    and :class:`~connectors.errors.RightsMissing` if something is missing that this role may not
    create.
    """
    applied = [f"connectors/{name}" for name in await migrate_connectors(database)]
    if app == SHOP:
        applied += [f"shop/{name}" for name in await migrate(database, "shop", _shop())]
    return applied


def newest_migrations(app: str) -> Mapping[str, int]:
    """By namespace, the number of the newest migration that this release has for an application."""
    found = {"connectors": _newest(resources.files("connectors.postgres").joinpath("migrations"))}
    if app == SHOP:
        found["shop"] = _newest(_shop())
    return found


def _shop() -> Traversable:
    return resources.files("app").joinpath("migrations")


def _newest(directory: Traversable) -> int:
    names = [file.name for file in directory.iterdir() if file.name.endswith(".sql")]
    return max(int(name[:4]) for name in names)
