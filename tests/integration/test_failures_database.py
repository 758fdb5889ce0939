"""Passing troubles of the database end no process: what waits for it tries again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import pytest

from redfaust.errors import DatabaseBusy, DatabaseError, DatabaseUnavailable
from redfaust.postgres.database import Database, our_statements
from redfaust.postgres.migrate import migrate
from redfaust.processing.retries import Retries
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.integration.test_failures_tables import fetch
from tests.rights import as_administrator

SETTINGS = {
    "serializable": {"default_transaction_isolation": "serializable"},
    "repeatable read": {"default_transaction_isolation": "repeatable read"},
    "short timeouts": {"lock_timeout": "200ms", "statement_timeout": "2s"},
}


async def execute(database_url: str, *statements: str) -> None:
    connection = await asyncpg.connect(as_administrator(database_url))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def have(database_url: str, settings: dict[str, str]) -> None:
    """Settings of the database for all sessions that begin."""
    name = database_url.rpartition("/")[2]
    await execute(
        database_url,
        *(f"ALTER DATABASE \"{name}\" SET {k} = '{v}'" for k, v in settings.items()),
    )


@asynccontextmanager
async def locked(database_url: str, *tables: str) -> AsyncIterator[None]:
    """Nobody else can read or write these tables."""
    connection = await asyncpg.connect(as_administrator(database_url))
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


@pytest.mark.parametrize("name", SETTINGS)
async def test_two_workers_share_the_work_whatever_the_server_has_for_its_sessions(
    database_url: str, name: str
) -> None:
    await have(database_url, SETTINGS[name])
    broker = f"memory://{uuid.uuid4().hex}"

    def worker() -> Any:
        app = new_app(broker, database_url)
        counted = app.topic("counted", key_type=str)
        table = app.Table("counts", key_type=str, value_type=int, default=int)

        @app.agent(counted, retries=Retries(attempts=3, delay=0.01))
        async def count(stream: Any) -> None:
            async for key, value in stream.items():
                if value % 7 == 0 and table[key] % 2:
                    table[key] += 1
                    raise ValueError("once more")
                table[key] += 1

        return app

    one, other = worker(), worker()
    async with running(one), running(other):
        topic = one.topic("counted", key_type=str)
        for number in range(200):
            await topic.send(key=f"k{number % 10}", value=number)
        await eventually(lambda: one.crashed or other.crashed or _count(database_url, 200))
        assert not one.crashed
        assert not other.crashed


async def _count(database_url: str, expected: int) -> bool:
    rows = await fetch(
        database_url,
        "SELECT (SELECT coalesce(sum(value::text::int), 0)::int FROM test.counts) "
        "+ (SELECT count(*)::int FROM redfaust.dead_letters)",
    )
    return rows == [(expected,)]


LOCKED = {
    "the positions": ["redfaust.positions"],
    "a table's rows": ["test.counts"],
    "parked events": ["redfaust.parked"],
    "the producers": ["redfaust.producers"],
    "what is sent": ["redfaust.batches"],
}


@pytest.mark.parametrize("what", LOCKED)
async def test_a_worker_that_starts_waits_for_a_lock_that_times_out(
    database_url: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    broker = f"memory://{uuid.uuid4().hex}"

    def worker() -> Any:
        app = new_app(broker, database_url)
        names = app.topic("names", key_type=str)
        table = app.Table("counts", key_type=str, value_type=int, default=int)

        @app.agent(names)
        async def count(stream: Any) -> None:
            async for key, number in stream.items():
                table[key] += number

        return app

    async with running(worker()) as app:
        await app.topic("names", key_type=str).send(key="a", value=1)
        await eventually(lambda: all_finished(app, "names"))
    await have(database_url, {"lock_timeout": "50ms"})
    app = worker()
    async with asyncio.TaskGroup() as tasks:
        async with locked(database_url, *LOCKED[what]):
            starting = tasks.create_task(app.start())
            await eventually(lambda: "LockNotAvailableError" in caplog.text)
            assert not app.crashed
        await starting
        try:
            await app.topic("names", key_type=str).send(key="a", value=1)
            await eventually(lambda: app.crashed or _is(database_url, 2))
            assert not app.crashed
        finally:
            await app.stop()


async def _is(database_url: str, expected: int) -> bool:
    rows = await fetch(database_url, "SELECT value::text::int FROM test.counts")
    return rows == [(expected,)]


async def test_shared_delivery_waits_for_its_inbox(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await have(database_url, {"lock_timeout": "50ms"})
    app = new_app(f"memory://{uuid.uuid4().hex}", database_url)
    names = app.topic("names", key_type=str)
    seen: list[str] = []

    @app.agent(names, delivery="shared")
    async def see(stream: Any) -> None:
        async for name in stream:
            seen.append(name)

    async with running(app):
        async with locked(database_url, "redfaust.inbox"):
            await names.send(key="a", value="one")
            await eventually(lambda: "LockNotAvailableError" in caplog.text)
        await eventually(lambda: app.crashed or seen == ["one"])
        assert not app.crashed


async def test_a_worker_that_may_not_write_says_so_and_waits(database_url: str) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", database_url)
    names = app.topic("names", key_type=str)
    table = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(names)
    async def count(stream: Any) -> None:
        async for key, number in stream.items():
            table[key] += number

    async with running(app):
        await have(database_url, {"default_transaction_read_only": "on"})
        connection = await asyncpg.connect(as_administrator(database_url))
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await connection.close()
        await names.send(key="a", value=1)
        waiting = cast("Any", app.consumer).waiting
        await eventually(lambda: "takes no writes now" in (waiting.reason or ""))
        info = cast("Any", app.consumer)._introduce()
        assert info["waits"] == {"reason": waiting.reason, "since": waiting.since}
        connection = await asyncpg.connect(as_administrator(database_url))
        await connection.execute("SET default_transaction_read_only = off")
        name = database_url.rpartition("/")[2]
        await connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await connection.close()
        await eventually(lambda: _is(database_url, 1))
        await eventually(lambda: waiting.reason is None)
        assert "waits" not in cast("Any", app.consumer)._introduce()


async def run(database: Database, *statements: str) -> None:
    async with database.transaction() as connection:
        for statement in statements:
            await connection.execute(statement)


async def test_what_ends_one_transaction_is_busy_and_the_pool_stays(migrated_url: str) -> None:
    database = await Database.connect(migrated_url)
    with pytest.raises(DatabaseBusy, match="statement_timeout"):
        await run(database, "SET LOCAL statement_timeout = '10ms'", "SELECT pg_sleep(5)")
    with pytest.raises(DatabaseBusy):
        await run(database, "DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
    assert database.pool.get_idle_size() == 1
    await database.close()


async def test_what_is_wrong_with_a_statement_stays_asyncpgs_unless_it_is_ours(
    migrated_url: str,
) -> None:
    database = await Database.connect(migrated_url)
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.fetch("SELECT FROM nowhere")
    with (
        pytest.raises(DatabaseError, match=r"Nothing can be read now .*nowhere"),
        our_statements("Nothing can be read"),
    ):
        await database.fetch("SELECT FROM nowhere")
    await database.close()


async def test_what_a_block_misses_is_not_the_databases(migrated_url: str) -> None:
    database = await Database.connect(migrated_url)
    with pytest.raises(FileNotFoundError):
        async with database.transaction():
            raise FileNotFoundError("of the application")
    await database.close()


async def test_a_session_that_the_server_has_ended_is_unavailable(migrated_url: str) -> None:
    database = await Database.connect(migrated_url)

    async def be_silent() -> None:
        async with database.transaction() as connection:
            await connection.execute("SET idle_in_transaction_session_timeout = '10ms'")
            await eventually(connection.is_closed)
            await connection.fetchval("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await be_silent()
    assert len(await database.fetch("SELECT 1")) == 1
    await database.close()


async def test_migrations_wait_though_statements_and_locks_have_timeouts(
    empty_database_url: str,
) -> None:
    await have(empty_database_url, {"lock_timeout": "20ms", "statement_timeout": "20ms"})
    databases = [await Database.connect(empty_database_url) for _ in range(3)]
    applied = await asyncio.gather(*map(migrate, databases))
    assert sum(map(bool, applied)) >= 1
    assert len({name for names in applied for name in names}) == sum(map(len, applied))
    for database in databases:
        await database.close()
