"""Postgres of our own, on a port of the loopback interface."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from app.embedded.accounts import Account, runnable_by, unprivileged_account
from app.embedded.binaries import PostgresInstallation, find_postgres
from app.embedded.logins import as_role, password_of
from app.embedded.orphans import until_gone
from app.embedded.process import (
    Server,
    StopPlan,
    on_port,
    server_environment,
    start_server,
    until_ready,
    working_directory,
)
from app.embedded.secret import password_in
from app.errors import ServerFailed
from redfaust.postgres.identifiers import literal
from redfaust.rights import IN_POSTGRES, Role, roles_sql

STOP: StopPlan = ((signal.SIGINT, 1.5), (signal.SIGQUIT, 0.5), (signal.SIGKILL, 0.5))
"""Fast shutdown, which ends sessions; then one that leaves recovery to the next start."""
PROOF_PATIENCE = 5.0
INIT_PATIENCE = 60.0
MAX_CONNECTIONS = 300
SUPERUSER = "postgres"
DATABASE = "redfaust"

_HERE = "/proc/self/cwd"
"""The data directory, as a server sees it that may not walk the path to it."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server."""

    url: str
    """Of the database :data:`DATABASE`, with the superuser's password in it."""
    server: Server

    def url_of(self, role: Role) -> str:
        """The same for a role."""
        return as_role(self.url, role)

    @property
    def port(self) -> int:
        """Where it listens, to be started there again."""
        port = urlsplit(self.url).port
        assert port is not None
        return port

    async def stop(self) -> None:
        """Stop it; its data stay."""
        await self.server.stop()


async def start_postgres(
    directory: Path, *, port: int | None = None, options: Mapping[str, str] | None = None
) -> Postgres:
    """Start a server on the data in a directory, which is made if it is not there.

    Without a ``port`` it takes a free one; ``options`` are added to its configuration, such as
    ``{"fsync": "off"}``. As root it runs as ``nobody``. Raises
    :class:`~app.errors.ServerFailed` with the end of its log if it does not come up.
    """
    directory = working_directory(directory)
    data = directory / "data"
    account = unprivileged_account()
    installation = await asyncio.to_thread(runnable_by, account, find_postgres())
    await until_gone(data, "postgres")
    password = password_in(directory / "password")
    if not data.exists():
        await _init(installation, data, password, account)
    # Nobody works here any more; but its number may be somebody else's by now, and then
    # Postgres would believe that it is still running.
    (data / "postmaster.pid").unlink(missing_ok=True)

    async def start(free: int) -> Postgres:
        configuration = {"max_connections": str(MAX_CONNECTIONS), **(options or {})}
        server = await start_server(
            "Postgres",
            [
                installation.program("postgres"),
                *("-D", _HERE, "-h", "127.0.0.1", "-p", str(free), "-k", ""),
                *(
                    part
                    for key, value in configuration.items()
                    for part in ("-c", f"{key}={value}")
                ),
            ],
            cwd=data,
            log=directory / "server.log",
            plan=STOP,
            account=account,
        )
        origin = f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{free}"
        await until_ready(
            server,
            "database system is ready to accept connections",
            lambda: _ensure_database(origin, password),
        )
        return Postgres(f"{origin}/{DATABASE}", server)

    return await on_port(port, start)


async def _init(
    installation: PostgresInstallation, data: Path, password: str, account: Account | None
) -> None:
    """Make the data directory: all of it or, if we are killed on the way, nothing."""
    partial = data.with_name("data.partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700)
    with tempfile.TemporaryFile() as secret:
        secret.write(f"{password}\n".encode())
        secret.seek(0)
        if account is not None:
            shutil.chown(partial, account.uid, account.gid)
            shutil.chown(secret.fileno(), account.uid, account.gid)
        process = await asyncio.create_subprocess_exec(
            installation.program("initdb"),
            *("-D", _HERE, "-U", SUPERUSER, "--pwfile=/dev/stdin", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            cwd=partial,
            stdin=secret,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=server_environment(),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), INIT_PATIENCE)
        except BaseException:
            process.kill()
            await process.wait()
            raise
    if process.returncode != 0:
        raise ServerFailed(f"Postgres could not be set up:\n{output.decode(errors='replace')}")
    partial.rename(data)


async def _ensure_database(origin: str, password: str) -> None:
    connection = await asyncpg.connect(f"{origin}/{SUPERUSER}", timeout=PROOF_PATIENCE)
    try:
        if await connection.fetchval("SELECT pg_is_in_recovery()"):
            return  # a standby has what its primary has
        if not await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE
        ):
            await connection.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        await connection.close()
    connection = await asyncpg.connect(f"{origin}/{DATABASE}", timeout=PROOF_PATIENCE)
    try:
        await create_roles(connection, password)
    finally:
        await connection.close()


async def create_roles(connection: asyncpg.Connection[asyncpg.Record], password: str) -> None:
    """Give each role its login and its rights in a database, from the superuser's password."""
    async with connection.transaction():
        # A synchronous standby may be away when its primary is started again.
        await connection.execute("SET LOCAL synchronous_commit = local")
        await connection.execute(roles_sql())
        for role in IN_POSTGRES:
            secret = literal(password_of(role, password))
            await connection.execute(f"ALTER ROLE {role} PASSWORD {secret}")


@asynccontextmanager
async def running_postgres(
    directory: Path, *, options: Mapping[str, str] | None = None
) -> AsyncIterator[Postgres]:
    """:func:`start_postgres`, stopped at the end of the block."""
    postgres = await start_postgres(directory, options=options)
    try:
        yield postgres
    finally:
        await postgres.stop()
