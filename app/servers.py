"""Embedded servers that are started again, at the same place, if they should end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from pydantic import SecretStr

from app.backoff import Backoff
from app.embedded import (
    DataDirectory,
    Postgres,
    Services,
    Valkey,
    start_postgres,
    start_valkey,
)
from app.embedded.logins import as_role
from app.errors import ServerFailed
from app.settings import Given, Settings
from redfaust.rights import Role

logger = logging.getLogger(__name__)

Running = Postgres | Valkey
Start = Callable[[int | None], Awaitable[Running]]


@asynccontextmanager
async def kept_valkey(directory: Path) -> AsyncIterator[str]:
    """The administrator's URL of a Valkey that is kept running in the block."""
    async with _kept(lambda port: start_valkey(directory, port=port)) as url:
        yield url


@asynccontextmanager
async def kept_postgres(directory: Path) -> AsyncIterator[str]:
    """The administrator's URL of a Postgres that is kept running in the block."""
    async with _kept(lambda port: start_postgres(directory, port=port)) as url:
        yield url


SHELL = Role.WORKER
"""Whose URLs the data directory publishes. Everything that is not the owner's can be done by it."""


class Installation:
    """Servers that run, and the settings by which each kind of process uses them.

    Each logs in to an embedded server as its role. Where a URL was given, all use that.
    """

    def __init__(self, given: Given, *, broker: str | None, database: str | None) -> None:
        """With the administrators' URLs of embedded servers."""
        self._given = given
        self._broker = broker
        self._database = database

    def settings_of(self, role: Role) -> Settings:
        """The settings of a process. An owner's broker is a worker's."""
        services = self.services_of(role)
        return self._given.complete(broker=services.broker, database=services.database)

    def services_of(self, role: Role) -> Services:
        """Where the servers are for a role."""
        in_broker = Role.WORKER if role is Role.OWNER else role
        return Services(
            _url(self._given.broker, self._broker, in_broker),
            _url(self._given.database, self._database, role),
        )


def _url(given: SecretStr | None, administrators: str | None, role: Role) -> str:
    if given is not None:
        return given.get_secret_value()
    assert administrators is not None
    return as_role(administrators, role)


@asynccontextmanager
async def running_servers(given: Given) -> AsyncIterator[Installation]:
    """Servers that are kept running in the block where the settings name none.

    Raises :class:`~app.errors.DirectoryInUse` if others run there.
    """
    directory = DataDirectory(given.data_dir)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(directory.lock())
        # Entered in this order, so that Postgres stops before Valkey.
        installation = Installation(
            given,
            broker=None
            if given.broker
            else await stack.enter_async_context(kept_valkey(directory.valkey)),
            database=None
            if given.database
            else await stack.enter_async_context(kept_postgres(directory.postgres)),
        )
        directory.publish(installation.services_of(SHELL))
        yield installation


@asynccontextmanager
async def _kept(start: Start) -> AsyncIterator[str]:
    running = [await start(None)]
    logger.info("%s runs, process %d", running[0].server.name, running[0].server.process.pid)
    keeper = asyncio.create_task(_keep(running, start))
    try:
        yield running[0].url
    finally:
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        await running[0].stop()


async def _keep(running: list[Running], start: Start) -> None:
    """Replace the only element whenever it ends."""
    backoff = Backoff()
    while True:
        with backoff.attempt():
            status = await running[0].server.process.wait()
        delay = backoff.delay()
        name = running[0].server.name
        logger.warning("%s ended with status %d; starting it again in %.1f s", name, status, delay)
        await asyncio.sleep(delay)
        try:
            running[0] = await start(running[0].port)
        except ServerFailed as error:
            logger.warning("%s", error)
