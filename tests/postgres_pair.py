"""A Postgres primary with a streaming standby, which is promoted when the primary has died."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from app.embedded import Postgres, running_postgres
from app.embedded.accounts import runnable_by, unprivileged_account
from app.embedded.binaries import find_postgres
from app.embedded.postgres import STOP
from app.embedded.process import (
    Server,
    free_port,
    server_environment,
    start_server,
    until_ready,
    working_directory,
)
from tests.proxy import Proxy
from tests.rights import as_worker, with_known_password

OPTIONS: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off"}
"""Nothing here has to survive the machine's power."""
STANDBY = "standby"
"""As which the standby is known to its primary."""


class Pair:
    """The standby reaches its primary through a proxy, which can be cut."""

    def __init__(self, primary: Postgres, standby: Server, standby_port: int, way: Proxy) -> None:
        self.primary = primary
        self.way = way
        self._standby = standby
        self._standby_port = standby_port

    @property
    def url(self) -> str:
        """Of both, whichever is the primary, for a worker."""
        return as_worker(self._at(f"127.0.0.1:{self.primary.port},127.0.0.1:{self._standby_port}"))

    @property
    def standby_url(self) -> str:
        """Of the standby, whatever it is."""
        return self._at(f"127.0.0.1:{self._standby_port}")

    def _at(self, hosts: str) -> str:
        parts = urlsplit(self.primary.url)
        user = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{user}@{hosts}"))

    async def wait_for_standby(self) -> None:
        """From now on a commit of the primary waits until the standby has it."""
        await self._execute(
            self.primary.url, f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'"
        )
        await self._execute(self.primary.url, "SELECT pg_reload_conf()")

    def cut_off(self) -> None:
        """The standby learns nothing any more of what the primary does."""
        self.way.lead_to(None)

    def mend(self) -> None:
        """End what :meth:`cut_off` began."""
        self.way.lead_to(self.primary.port)

    async def kill_primary(self) -> None:
        """``kill -9``."""
        await _ended(self.primary.server, signal.SIGKILL)

    async def promote(self) -> None:
        """Make the standby the primary, as an operator would."""
        await self._execute(self.standby_url, "SELECT pg_promote()")

    async def _execute(self, url: str, statement: str) -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def _ended(server: Server, sig: signal.Signals) -> None:
    server.process.send_signal(sig)
    await server.process.wait()


@asynccontextmanager
async def running_pair(directory: Path) -> AsyncIterator[Pair]:
    """Both running, the standby with everything, and waited for by nobody."""
    options = {**OPTIONS, "wal_keep_size": "64MB"}
    async with (
        running_postgres(with_known_password(directory / "primary"), options=options) as primary,
        Proxy(primary.port).listening() as way,
    ):
        await _copy(primary, directory / "standby", way.port)
        port = free_port()
        standby = await _start(directory / "standby", port)
        try:
            yield Pair(primary, standby, port, way)
        finally:
            await standby.stop()


async def _copy(primary: Postgres, directory: Path, port: int) -> None:
    """A copy of the primary's data that follows it, by a port that leads there."""
    data = working_directory(directory) / "data"
    data.mkdir(mode=0o700)
    account = unprivileged_account()
    if account is not None:
        shutil.chown(data, account.uid, account.gid)
    password = urlsplit(primary.url).password
    origin = (
        f"host=127.0.0.1 port={port} user=postgres password={password} application_name={STANDBY}"
    )
    process = await asyncio.create_subprocess_exec(
        runnable_by(account, find_postgres()).program("pg_basebackup"),
        *("-D", "/proc/self/cwd", "-d", origin, "--write-recovery-conf"),
        *("--wal-method=stream", "--checkpoint=fast", "--no-sync"),
        cwd=data,
        env=server_environment(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    assert await process.wait() == 0


async def _start(directory: Path, port: int) -> Server:
    account = unprivileged_account()
    options = {**OPTIONS, "max_connections": "300"}
    server = await start_server(
        "Postgres",
        [
            runnable_by(account, find_postgres()).program("postgres"),
            *("-D", "/proc/self/cwd", "-h", "127.0.0.1", "-p", str(port), "-k", ""),
            *(part for key, value in options.items() for part in ("-c", f"{key}={value}")),
        ],
        cwd=directory / "data",
        log=directory / "server.log",
        plan=STOP,
        account=account,
    )
    await until_ready(server, "ready to accept read-only connections", _no_proof)
    return server


async def _no_proof() -> None:
    """Its log is enough: nobody else listens there."""
