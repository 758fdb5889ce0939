"""A Redis Sentinel that decides by itself who is the primary."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.embedded.process import Server, free_port, start_server
from app.embedded.secret import write_private
from app.embedded.valkey import STOP
from tests.integration.outbox_streams import eventually
from tests.rights import as_worker

SENTINEL = shutil.which("redis-sentinel")
NAME = "pair"
DOWN_AFTER_MS = 500


@dataclass(frozen=True)
class RunningSentinel:
    """It watches one primary."""

    server: Server
    port: int
    password: str
    """Of the primary."""

    @property
    def url(self) -> str:
        """Of the broker that it leads to, for a worker."""
        return as_worker(f"redis+sentinel://127.0.0.1:{self.port}/{NAME}")

    async def primary(self) -> tuple[str, int]:
        """Where it is now."""
        async with Redis(port=self.port, decode_responses=True) as sentinel:
            address = await sentinel.sentinel_get_master_addr_by_name(NAME)
            return cast("tuple[str, int]", address)

    async def knows_replicas(self, count: int) -> None:
        """Wait until it knows so many of the primary."""
        async with Redis(port=self.port) as sentinel:

            async def knows_them() -> bool:
                try:
                    return len(await sentinel.sentinel_slaves(NAME)) == count
                except RedisError:  # it is not up yet
                    return False

            await eventually(knows_them)


@asynccontextmanager
async def running_sentinel(
    directory: Path, primary: int, password: str, *, replicas: int
) -> AsyncIterator[RunningSentinel]:
    """Watch the primary on a port of this machine, from when its replicas are known."""
    port = free_port()
    configuration = directory / "sentinel.conf"
    write_private(
        configuration,
        f"bind 127.0.0.1\nport {port}\ndir {directory}\n"
        f"sentinel monitor {NAME} 127.0.0.1 {primary} 1\n"
        f"sentinel auth-pass {NAME} {password}\n"
        f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n"
        f"sentinel failover-timeout {NAME} 3000\n",
    )
    server = await start_server(
        "Sentinel",
        [str(SENTINEL), str(configuration)],
        cwd=directory,
        log=directory / "sentinel.log",
        plan=STOP,
    )
    try:
        sentinel = RunningSentinel(server, port, password)
        await sentinel.knows_replicas(replicas)
        yield sentinel
    finally:
        await server.stop()
