"""The servers that are tortured."""

from __future__ import annotations

import asyncio
import enum
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import asyncpg

from app.embedded import Postgres, start_postgres
from app.embedded.secret import write_private
from tests.proxy import Proxy
from tests.rights import PASSWORD, as_worker
from tests.torture.disk import Disk, small_disk
from tests.torture.on_cluster import Cluster, running_nodes
from tests.torture.on_kafka import Kafka, running_stand_in
from tests.torture.redis_pair import Pair, running_pair

_Broker: TypeAlias = Pair | Cluster | Kafka

PATIENCE = 30.0
"""Seconds within which Postgres has to be there again."""
LOOK_EVERY = 0.1
WAL_KEPT = {"max_wal_size": "128MB"}
"""The disk is small."""


@dataclass
class Servers:
    """A broker, which fails over if it is a Redis, and Postgres on a port that it keeps."""

    broker: _Broker
    directory: Path
    options: Mapping[str, str]
    postgres: Postgres
    way: Proxy
    """To Postgres, for workers and relays."""
    disk: Disk | None
    """Postgres's, if it has one of its own."""

    @property
    def database_url(self) -> str:
        """For workers and relays."""
        url = self.postgres.url.replace(f":{self.postgres.port}/", f":{self.way.port}/")
        return as_worker(url)

    async def end_postgres(self, sig: signal.Signals) -> None:
        """End it (SIGKILL: kill; SIGQUIT: immediate shutdown) and start it again."""
        process = self.postgres.server.process
        process.send_signal(sig)
        await process.wait()
        await self._start_again()

    async def revive_postgres(self) -> None:
        """Return when it can be used. It may have ended by itself."""
        async with asyncio.timeout(PATIENCE):
            while not await self._answers():
                if self.postgres.server.process.returncode is not None:
                    await self._start_again()
                await asyncio.sleep(LOOK_EVERY)

    async def stop(self) -> None:
        """Stop the Postgres that runs now."""
        await self.postgres.stop()

    async def _start_again(self) -> None:
        self.postgres = await start_postgres(
            self.directory, port=self.postgres.port, options=self.options
        )

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.postgres.url, timeout=PATIENCE)
        except (OSError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True


class BrokerKind(enum.Enum):
    """What is tortured."""

    PAIR = "two Redis and a Sentinel"
    CLUSTER = "a Redis Cluster"
    KAFKA = "a broker that speaks Kafka's protocol"


_RUNNING: Mapping[BrokerKind, Callable[[Path], AbstractAsyncContextManager[_Broker]]] = {
    BrokerKind.PAIR: running_pair,
    BrokerKind.CLUSTER: running_nodes,
    BrokerKind.KAFKA: running_stand_in,
}


@asynccontextmanager
async def running_servers(
    directory: Path, options: Mapping[str, str], kind: BrokerKind
) -> AsyncIterator[Servers]:
    """All of them during the block."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(_RUNNING[kind](directory))
        disk = stack.enter_context(small_disk(directory / "postgres"))
        write_private(directory / "postgres" / "password", PASSWORD)
        options = {**WAL_KEPT, **options}
        postgres = await start_postgres(directory / "postgres", options=options)
        way = await stack.enter_async_context(Proxy(postgres.port).listening())
        servers = Servers(broker, directory / "postgres", options, postgres, way, disk)
        stack.push_async_callback(servers.stop)
        yield servers
