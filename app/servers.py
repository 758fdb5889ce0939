"""Embedded servers that are started again, at the same place, if they should end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from app.backoff import Backoff
from app.embedded import (
    DataDirectory,
    Postgres,
    Services,
    Valkey,
    start_postgres,
    start_valkey,
)
from app.errors import ServerFailed
from app.settings import Given, Settings

logger = logging.getLogger(__name__)

Running = Postgres | Valkey
Start = Callable[[int | None], Awaitable[Running]]


@asynccontextmanager
async def kept_valkey(directory: Path) -> AsyncIterator[str]:
    """The URL of a Valkey that is kept running in the block."""
    async with _kept(lambda port: start_valkey(directory, port=port)) as url:
        yield url


@asynccontextmanager
async def kept_postgres(directory: Path) -> AsyncIterator[str]:
    """The URL of a Postgres that is kept running in the block."""
    async with _kept(lambda port: start_postgres(directory, port=port)) as url:
        yield url


@asynccontextmanager
async def running_servers(given: Given) -> AsyncIterator[Settings]:
    """The settings, with servers that are kept running in the block where they name none.

    Raises :class:`~app.errors.DirectoryInUse` if others run there.
    """
    directory = DataDirectory(given.data_dir)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(directory.lock())
        # Entered in this order, so that Postgres stops before Valkey.
        services = Services(
            broker=given.broker.get_secret_value()
            if given.broker
            else await stack.enter_async_context(kept_valkey(directory.valkey)),
            database=given.database.get_secret_value()
            if given.database
            else await stack.enter_async_context(kept_postgres(directory.postgres)),
        )
        directory.publish(services)
        yield given.complete(broker=services.broker, database=services.database)


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
