"""Connections that are given back to the pool leave nothing for who takes them next."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database

LAST_SAID = "SELECT query FROM pg_stat_activity WHERE pid = $1"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """With a single connection, which everybody gets."""
    database = await Database.connect(database_url, max_size=1)
    yield database
    await database.close()


async def test_what_an_application_sets_is_forgotten(database: Database) -> None:
    async with Outbox(database).transaction() as transaction:
        await transaction.connection.execute("SET lock_timeout = '7s'")
    async with database.transaction() as connection:
        assert await connection.fetchval("SHOW lock_timeout") == "0"


async def lock_and_fail(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("SELECT pg_advisory_lock(7)")
        await connection.execute("SELECT 1 / 0")


async def test_what_a_failed_transaction_has_locked_is_free(
    database: Database, database_url: str
) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await lock_and_fail(database)
    other = await asyncpg.connect(database_url)
    assert await other.fetchval("SELECT pg_try_advisory_lock(7)")
    await other.close()


@pytest.mark.parametrize("is_by_outbox", [False, True])
async def test_transactions_that_set_nothing_end_with_their_commit(
    database: Database, database_url: str, is_by_outbox: bool
) -> None:
    if is_by_outbox:
        async with Outbox(database).transaction(reset=False) as transaction:
            pid = transaction.connection.get_server_pid()
    else:
        async with database.transaction() as connection:
            pid = connection.get_server_pid()
    other = await asyncpg.connect(database_url)
    assert await other.fetchval(LAST_SAID, pid) == "COMMIT;"
    await other.close()
