"""A Redis primary with a replica, behind a proxy that leads to one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis

from app.embedded import Valkey, running_valkey
from app.embedded.secret import password_in, write_private
from tests.integration.outbox_streams import eventually

CHUNK = 1 << 16


class Proxy:
    """Passes connections on to a port of this machine; which one can be changed."""

    def __init__(self, target: int) -> None:
        self._target: int | None = target
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.lead_to(None)

    def lead_to(self, target: int | None) -> None:
        """Cut all connections; new ones lead there, or nowhere."""
        self._target = target
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._target is None:
                return
            with suppress(ConnectionError):
                onward, behind = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers.add(behind)
                await asyncio.gather(_pump(reader, behind), _pump(onward, writer))
                self._writers.discard(behind)
        finally:
            self._writers.discard(writer)
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


class Pair:
    """Clients go through one proxy; replica and Sentinel reach the primary through another."""

    def __init__(self, first: Valkey, second: Valkey, clients: Proxy, peers: Proxy) -> None:
        self.first = first
        self.second = second
        self.clients = clients
        self.peers = peers
        self.url = first.url.replace(f":{first.port}/", f":{clients.port}/")

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
    directories = [directory / "first", directory / "second"]
    for each in directories:
        each.mkdir(mode=0o700)
        write_private(each / "password", password_in(directories[0] / "password"))
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
