"""Valkey (or a Redis) of our own, on a port of the loopback interface."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

from app.embedded.binaries import find_valkey
from app.embedded.logins import as_role, password_of
from app.embedded.orphans import until_gone
from app.embedded.process import (
    Server,
    StopPlan,
    on_port,
    start_server,
    until_ready,
    working_directory,
)
from app.embedded.secret import password_in, write_private
from redfaust.rights import Role, users_acl

STOP: StopPlan = ((signal.SIGTERM, 1.0), (signal.SIGKILL, 0.5))
PROOF_PATIENCE = 5.0

_CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
appendonly yes
save ""
"""


@dataclass(frozen=True, slots=True)
class Valkey:
    """A running server."""

    url: str
    """With the administrator's password in it."""
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


async def start_valkey(
    directory: Path, *, port: int | None = None, binary: Path | None = None
) -> Valkey:
    """Start a server on the data in a directory, which is made if it is not there.

    Without a ``port`` it takes a free one; ``binary`` is another server of the same protocol,
    such as Debian's redis-server. Raises :class:`~app.errors.ServerFailed` with the end of its
    log if it does not come up.
    """
    directory = working_directory(directory)
    binary = binary or find_valkey()
    # Debian's redis-server is a link, and does what the name it is called by says.
    await until_gone(directory, _program(binary))
    password = password_in(directory / "password")
    configuration = directory / "valkey.conf"

    async def start(free: int) -> Valkey:
        # In a file, since arguments can be seen by every user of the machine.
        text = _CONFIGURATION.format(port=free, password=password) + users_for(password)
        write_private(configuration, text)
        server = await start_server(
            "Valkey",
            [str(binary), str(configuration)],
            cwd=directory,
            log=directory / "server.log",
            plan=STOP,
        )
        url = f"redis://default:{password}@127.0.0.1:{free}/0"
        await until_ready(server, "Ready to accept connections", lambda: _prove(url))
        return Valkey(url, server)

    return await on_port(port, start)


def users_for(password: str) -> str:
    """Lines of a configuration that give each role its login, from the administrator's password."""
    return "".join(f"{line} >{password_of(role, password)}\n" for role, line in users_acl().items())


def _program(binary: Path) -> str:
    return binary.resolve().name


async def _prove(url: str) -> None:
    client = Redis.from_url(url, socket_timeout=PROOF_PATIENCE)
    try:
        await client.ping()
    finally:
        await client.aclose()


@asynccontextmanager
async def running_valkey(directory: Path, *, binary: Path | None = None) -> AsyncIterator[Valkey]:
    """:func:`start_valkey`, stopped at the end of the block."""
    valkey = await start_valkey(directory, binary=binary)
    try:
        yield valkey
    finally:
        await valkey.stop()
