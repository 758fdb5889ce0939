"""``redfaust migrate``."""

from __future__ import annotations

import asyncio
import json

import click

from app.agents_tables import create_agents_tables
from app.schema import migrate_all
from app.settings import Settings
from redfaust.postgres.database import Database


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array of what was applied.")
def command(as_json: bool) -> None:
    """Bring the database's schema up to this release.

    Creates what is missing, and nothing twice: several may run at once. A database that a newer
    release has migrated is refused. The shop's tables are made for the shop alone: with another
    REDFAUST_APP_ID only redfaust's own.

    Give REDFAUST_DATABASE the role that owns the tables; where nothing is missing, one that may
    read is enough.
    """
    applied = asyncio.run(_migrate(Settings.load()))
    if as_json:
        click.echo(json.dumps(applied))
    else:
        click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")


async def _migrate(settings: Settings) -> list[str]:
    database = await Database.connect(settings.database.get_secret_value())
    try:
        applied = await migrate_all(database, settings.app_id)
        return applied + await create_agents_tables(database, settings)
    finally:
        await database.close()
