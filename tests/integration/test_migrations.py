from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from yarl import URL

from redfaust.errors import (
    DatabaseError,
    DatabaseUnavailable,
    MigrationChanged,
    SchemaTooNew,
)
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import apply_migrations, migrate
from tests.rights import as_administrator


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(empty_database_url, max_size=3)
    yield database
    await database.close()


def write(directory: Path, **files: str) -> Path:
    for name, sql in files.items():
        (directory / f"{name.removeprefix('m')}.sql").write_text(sql)
    return directory


async def test_migrations_apply_once_and_in_order(database: Database, tmp_path: Path) -> None:
    write(tmp_path, m0002_more="ALTER TABLE t ADD b int", m0001_first="CREATE TABLE t (a int)")

    assert await apply_migrations(database, "test", tmp_path) == ["0001_first", "0002_more"]
    assert await apply_migrations(database, "test", tmp_path) == []

    write(tmp_path, m0003_last="ALTER TABLE t ADD c int")
    assert await apply_migrations(database, "test", tmp_path) == ["0003_last"]
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO t (a, b, c) VALUES (1, 2, 3)")


async def test_five_processes_that_start_at_once_migrate_once(
    empty_database_url: str, tmp_path: Path
) -> None:
    # Without the lock the second CREATE fails; without the check under it, so does the insert.
    write(tmp_path, m0001_first="CREATE TABLE t (a int)", m0002_row="INSERT INTO t VALUES (1)")
    databases = [await Database.connect(empty_database_url) for _ in range(5)]
    try:
        results = await asyncio.gather(
            *(apply_migrations(each, "test", tmp_path) for each in databases)
        )
        assert sorted(name for names in results for name in names) == ["0001_first", "0002_row"]
        async with databases[0].transaction() as connection:
            assert await connection.fetchval("SELECT count(*) FROM t") == 1
    finally:
        for each in databases:
            await each.close()


async def test_a_migration_that_fails_leaves_nothing(database: Database, tmp_path: Path) -> None:
    write(tmp_path, m0001_half="CREATE TABLE t (a int); SELECT 1/0")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await apply_migrations(database, "test", tmp_path)

    write(tmp_path, m0001_half="CREATE TABLE t (a int)")
    assert await apply_migrations(database, "test", tmp_path) == ["0001_half"]


async def test_a_database_newer_than_the_code_is_refused(
    database: Database, tmp_path: Path
) -> None:
    write(tmp_path, m0001_first="SELECT 1", m0002_newer="SELECT 1")
    await apply_migrations(database, "test", tmp_path)
    (tmp_path / "0002_newer.sql").unlink()

    with pytest.raises(SchemaTooNew, match=r"0002_newer.*ends at 0001: start the release"):
        await apply_migrations(database, "test", tmp_path)


@pytest.mark.parametrize("change", ["edited", "missing"])
async def test_an_applied_migration_may_not_change(
    database: Database, tmp_path: Path, change: str
) -> None:
    write(tmp_path, m0001_first="SELECT 1", m0002_second="SELECT 1")
    await apply_migrations(database, "test", tmp_path)
    if change == "edited":
        write(tmp_path, m0001_first="SELECT 2")
    else:
        (tmp_path / "0001_first.sql").unlink()

    with pytest.raises(MigrationChanged, match=rf"0001_first.*{change}"):
        await apply_migrations(database, "test", tmp_path)


async def test_namespaces_count_for_themselves(database: Database, tmp_path: Path) -> None:
    await migrate(database)
    write(tmp_path, m0001_first="CREATE TABLE t (a int)")
    assert await apply_migrations(database, "test", tmp_path) == ["0001_first"]
    assert await migrate(database) == []


@pytest.mark.parametrize(
    ("names", "complaint"),
    [(("1_short",), "NNNN_name"), (("0001_a", "0001_b"), "the same number")],
)
async def test_a_wrong_file_name_is_an_error(
    database: Database, tmp_path: Path, names: tuple[str, ...], complaint: str
) -> None:
    for name in names:
        (tmp_path / f"{name}.sql").write_text("SELECT 1")
    with pytest.raises(ValueError, match=complaint):
        await apply_migrations(database, "test", tmp_path)


async def test_no_server_is_unavailable(unused_tcp_port: int) -> None:
    url = f"postgresql://someone:hush@127.0.0.1:{unused_tcp_port}/shop"
    with pytest.raises(DatabaseUnavailable, match="check that Postgres runs") as caught:
        await Database.connect(url)
    assert isinstance(caught.value.__cause__, OSError)
    assert "hush" not in str(caught.value)


async def test_a_server_that_says_nothing_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redfaust.postgres.hosts.CONNECT_TIMEOUT", 0.2)
    release = asyncio.Event()

    async def silence(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
        await Database.connect(f"postgresql://postgres@127.0.0.1:{port}/shop")
    release.set()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("redis://127.0.0.1/shop", "write postgresql://"),
        ("postgresql://someone:hush@127.0.0.1:port/shop", "write postgresql://"),
    ],
)
async def test_a_wrong_url_is_no_case_for_waiting(url: str, advice: str) -> None:
    with pytest.raises(DatabaseError, match=advice) as caught:
        await Database.connect(url)
    assert not isinstance(caught.value, DatabaseUnavailable)
    assert "hush" not in str(caught.value)


async def test_a_missing_database_is_no_case_for_waiting(empty_database_url: str) -> None:
    with pytest.raises(DatabaseError, match="create it or correct the URL") as caught:
        await Database.connect(empty_database_url.rpartition("/")[0] + "/nowhere")
    assert not isinstance(caught.value, DatabaseUnavailable)


async def test_a_closed_pool_is_unavailable(empty_database_url: str) -> None:
    database = await Database.connect(empty_database_url)
    await database.close()
    with pytest.raises(DatabaseUnavailable) as caught:
        async with database.transaction():
            pass
    assert isinstance(caught.value.__cause__, asyncpg.InterfaceError)


async def test_close_does_not_wait_for_a_transaction_for_ever(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.postgres.database.CLOSE_TIMEOUT", 0.1)
    database = await Database.connect(empty_database_url)

    async def close_meanwhile() -> None:
        async with database.transaction() as connection:
            await database.close()
            await connection.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await close_meanwhile()


async def test_a_killed_session_is_unavailable_and_the_next_one_works(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        async with database.transaction() as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert isinstance(caught.value.__cause__, asyncpg.PostgresError)
    async with database.transaction() as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_session_killed_while_idle_is_unavailable(database: Database) -> None:
    async def use_after_kill() -> None:
        async with database.transaction() as victim:
            pid = await victim.fetchval("SELECT pg_backend_pid()")
            async with database.transaction() as other:
                await other.execute("SELECT pg_terminate_backend($1, 5000)", pid)
            with suppress(asyncpg.PostgresError):  # this one hears of the end of the session
                await victim.execute("SELECT 1")
            await victim.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        await use_after_kill()


async def test_a_statement_over_its_time_is_unavailable(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
        async with database.transaction() as connection:
            await connection.execute("SELECT pg_sleep(60)", timeout=0.1)


async def test_a_pool_without_a_free_connection_is_unavailable(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.postgres.database.ACQUIRE_TIMEOUT", 0.1)
    database = await Database.connect(empty_database_url, max_size=1)
    async with database.transaction():
        with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
            async with database.transaction():
                pass
    await database.close()


async def test_too_many_connections_is_unavailable(empty_database_url: str) -> None:
    url = URL(empty_database_url)
    role = f"limited_{url.name}"
    database = await Database.connect(as_administrator(empty_database_url))
    async with database.transaction() as connection:
        await connection.execute(f'GRANT CONNECT ON DATABASE "{url.name}" TO PUBLIC')
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
    try:
        with pytest.raises(DatabaseUnavailable) as caught:
            await Database.connect(str(url.with_user(role).with_password("x")))
        assert isinstance(caught.value.__cause__, asyncpg.TooManyConnectionsError)
    finally:
        async with database.transaction() as connection:
            await connection.execute(f"DROP ROLE {role}")
        await database.close()


async def test_errors_of_statements_stay_what_they_are(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with database.transaction() as connection:
            await connection.execute("SELECT * FROM nowhere")
    with pytest.raises(asyncpg.DataError):  # an InterfaceError to asyncpg, but the caller's fault
        async with database.transaction() as connection:
            await connection.execute("SELECT $1::int", "text")


async def test_errors_of_the_caller_roll_back_and_stay(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await connection.execute("CREATE TABLE t (a int)")
            raise FileNotFoundError  # an OSError, but not the connection's

    with pytest.raises(FileNotFoundError):
        await fail()
    async with database.transaction() as connection:
        assert await connection.fetchval("SELECT to_regclass('t')") is None


async def test_nobody_waits_for_a_transaction_whose_client_is_silent(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.postgres.database.SILENT_FOR", 0.1)
    database = await Database.connect(empty_database_url)

    heirs = []

    async def be_silent() -> None:
        async with database.transaction() as silent:
            await silent.execute("SELECT pg_advisory_xact_lock(1)")
            async with database.transaction() as heir:
                await heir.execute("SELECT pg_advisory_xact_lock(1)")
                heirs.append(heir)

    with pytest.raises(DatabaseUnavailable):
        await be_silent()
    assert heirs
    await database.close()


async def test_jsonb_is_python_objects(database: Database) -> None:
    value = {"text": "ä", "list": [1, None, 2.5, True]}
    async with database.transaction() as connection:
        assert await connection.fetchval("SELECT $1::jsonb", value) == value
        assert await connection.fetchval("SELECT ($1::jsonb)->>'text'", value) == "ä"
    async with database.dedicated() as session:
        assert await session.fetchval("SELECT $1::jsonb", value) == value
