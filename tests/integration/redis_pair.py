"""A Redis primary with a replica, behind a proxy that leads to one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

from app.embedded import Valkey, running_valkey
from tests.integration.outbox_streams import eventually
from tests.proxy import Proxy
from tests.rights import as_worker, with_known_password


class Pair:
    """Clients go through one proxy; replica and Sentinel reach the primary through another."""

    def __init__(self, first: Valkey, second: Valkey, clients: Proxy, peers: Proxy) -> None:
        self.first = first
        self.second = second
        self.clients = clients
        self.peers = peers
        self.url = as_worker(first.url).replace(f":{first.port}/", f":{clients.port}/")

    @property
    def password(self) -> str:
        """The same for both."""
        return urlsplit(self.first.url).password or ""

    async def replicate(self) -> None:
        """Make the second a replica of the first, and wait until it has everything."""
        async with Redis.from_url(self.first.url) as first:
            await first.config_set("repl-diskless-sync-delay", 0)
        async with Redis.from_url(self.second.url) as second:
            await second.config_set("masterauth", self.password)
            await second.replicaof("127.0.0.1", str(self.peers.port))
        await self._link_is("up")

    async def cut_off_first(self) -> None:
        """From its peers; its clients notice nothing, and write what will be lost."""
        self.peers.lead_to(None)
        await self._link_is("down")

    async def _link_is(self, status: str) -> None:
        async with Redis.from_url(self.second.url) as second:

            async def check() -> bool:
                replication = await second.info("replication")
                return bool(replication["master_link_status"] == status)

            await eventually(check)

    async def promote_second(self) -> None:
        """As an operator would, and lead the clients there."""
        async with Redis.from_url(self.second.url) as second:
            await second.replicaof("NO", "ONE")
        self.clients.lead_to(self.second.port)


@asynccontextmanager
async def running_pair(directory: Path, binary: Path | None) -> AsyncIterator[Pair]:
    """Both running, the second a replica of the first."""
    directories = [with_known_password(directory / name) for name in ("first", "second")]
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(running_valkey(each, binary=binary))
            for each in directories
        ]
        clients = await stack.enter_async_context(Proxy(first.port).listening())
        peers = await stack.enter_async_context(Proxy(first.port).listening())
        pair = Pair(first, second, clients, peers)
        await pair.replicate()
        yield pair
