"""PgBouncer in front of the database: refused where it shares sessions, and good where not."""

from __future__ import annotations

import asyncio
import getpass
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from app.embedded.process import free_port
from redfaust.errors import DatabaseError, DatabaseUnavailable
from redfaust.postgres.database import Database
from redfaust.postgres.pooling import PARAMETERS

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")


@asynccontextmanager
async def pooled(database_url: str, directory: Path, **settings: str) -> AsyncIterator[str]:
    """The database's URL by a PgBouncer with these settings."""
    assert PGBOUNCER is not None
    parts = urlsplit(database_url)
    port, name = free_port(), parts.path.removeprefix("/")
    users = directory / "users"
    users.write_text(f'"{parts.username}" "{parts.password or ""}"\n')
    config = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "auth_file": str(users),
        **settings,
    }
    lines = "".join(f"{name} = {value}\n" for name, value in config.items())
    target = f"host={parts.hostname} port={parts.port} dbname={name} user={parts.username}"
    password = f" password={parts.password}" if parts.password else ""
    (directory / "pgbouncer.ini").write_text(
        f"[databases]\n{name} = {target}{password}\n[pgbouncer]\n{lines}"
    )
    as_somebody = ["-u", "nobody"] if getpass.getuser() == "root" else []
    process = await asyncio.create_subprocess_exec(
        PGBOUNCER,
        *as_somebody,
        str(directory / "pgbouncer.ini"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(20):
            while b"process up" not in (line := await process.stderr.readline()):
                assert line, "pgbouncer has ended"
        user = f"{parts.username}:{parts.password}@" if parts.password else f"{parts.username}@"
        yield urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{port}"))
    finally:
        process.terminate()
        await process.communicate()


async def test_a_pooler_that_shares_sessions_is_refused_with_the_remedy(
    database_url: str, tmp_path: Path
) -> None:
    ignored = {"ignore_startup_parameters": ",".join(PARAMETERS)}
    async with pooled(database_url, tmp_path, pool_mode="transaction", **ignored) as url:
        with pytest.raises(DatabaseError, match="pool_mode=session") as refusal:
            await Database.connect(url)
    assert not isinstance(refusal.value, DatabaseUnavailable)


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_a_pooler_that_refuses_the_session_is_told_what_to_ignore(
    database_url: str, tmp_path: Path, mode: str
) -> None:
    async with pooled(database_url, tmp_path, pool_mode=mode) as url:
        with pytest.raises(DatabaseError, match="ignore_startup_parameters=") as refusal:
            await Database.connect(url)
    assert not isinstance(refusal.value, DatabaseUnavailable)


async def test_a_pooler_that_keeps_sessions_apart_is_good(
    database_url: str, tmp_path: Path
) -> None:
    ignored = {"ignore_startup_parameters": ",".join(PARAMETERS)}
    async with pooled(database_url, tmp_path, pool_mode="session", **ignored) as url:
        database = await Database.connect(url)
        assert len(await database.fetch("SELECT 1")) == 1
        await database.close()
