"""The database's schema: redfaust's tables, and those of the shop in its own database."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from redfaust.postgres.database import Database
from redfaust.postgres.migrate import apply_migrations, migrate

SHOP = "shop"
"""The application that has tables of its own here. Any other one gets redfaust's alone."""


async def migrate_all(database: Database, app: str = SHOP) -> list[str]:
    """Apply what an application is missing and return the names, as ``namespace/name``.

    Raises :class:`~redfaust.errors.SchemaTooNew` for a database that a newer release migrated,
    and :class:`~redfaust.errors.RightsMissing` if something is missing that this role may not
    create.
    """
    applied = [f"redfaust/{name}" for name in await migrate(database)]
    if app == SHOP:
        applied += [f"shop/{name}" for name in await apply_migrations(database, "shop", _shop())]
    return applied


def newest_migrations(app: str) -> Mapping[str, int]:
    """By namespace, the number of the newest migration that this release has for an application."""
    found = {"redfaust": _newest(resources.files("redfaust.postgres").joinpath("migrations"))}
    if app == SHOP:
        found["shop"] = _newest(_shop())
    return found


def _shop() -> Traversable:
    return resources.files("app").joinpath("migrations")


def _newest(directory: Traversable) -> int:
    names = [file.name for file in directory.iterdir() if file.name.endswith(".sql")]
    return max(int(name[:4]) for name in names)
