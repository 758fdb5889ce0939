"""No statement depends on the search path of the role that runs it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.schema import migrate_all
from redfaust.postgres.database import Database
from tests.rights import as_administrator, as_owner

STATEMENTS = {
    f"{package}/{path.name}": path.read_text()
    for package in ("app", "app.web")
    for path in Path(str(resources.files(package).joinpath("sql"))).glob("*.sql")
}


@pytest.mark.parametrize("name", sorted(STATEMENTS))
async def test_the_shops_statements_find_its_tables(shop_elsewhere: str, name: str) -> None:
    connection = await asyncpg.connect(shop_elsewhere)
    try:
        await connection.prepare(STATEMENTS[name])
    finally:
        await connection.close()


@pytest.fixture
async def shop_elsewhere(database_url: str) -> str:
    """The shop's database, where names without a schema lead to another one."""
    connection = await asyncpg.connect(as_administrator(database_url))
    name = urlsplit(database_url).path[1:]
    await connection.execute("CREATE SCHEMA elsewhere")
    await connection.execute(f'ALTER DATABASE "{name}" SET search_path TO elsewhere')
    await connection.execute("GRANT USAGE ON SCHEMA elsewhere TO PUBLIC")
    for table in ("carts", "order_states", "notifications"):  # as the workers make them
        await connection.execute(
            f"CREATE TABLE public.{table} (key text, value jsonb, user_id text, updated_at "
            "timestamptz)"
        )
    await connection.close()
    database = await Database.connect(as_owner(database_url))
    await migrate_all(database)
    await database.close()
    return database_url
