"""A way to a server of this machine that can be led elsewhere, cut, or held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK = 1 << 16


class Proxy:
    """Passes connections on to a port of this machine; which one can be changed."""

    def __init__(self, target: int) -> None:
        self.target: int | None = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._to_lose: set[asyncio.StreamWriter] = set()
        self._fatal: bytes | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self.port = 0
        self.refused = asyncio.Event()
        """Set when a connection led nowhere."""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.let_go()
            self.lead_to(None)

    def lead_to(self, target: int | None) -> None:
        """Cut all connections; new ones lead there, or nowhere."""
        self.target = target
        for writer in list(self._writers):
            writer.close()

    def shut(self) -> None:
        """Lead new connections nowhere; those that are open stay."""
        self.target = None

    def cut(self) -> None:
        """Cut all connections; new ones lead where these did."""
        self.lead_to(self.target)

    def hold(self) -> None:
        """Let nothing pass, as a server that hangs: what is sent to it, it gets later."""
        self._flows.clear()

    def let_go(self) -> None:
        """Pass on what was held up, also of clients that have gone since."""
        self._flows.set()

    def lose_answers(self) -> None:
        """Cut each connection that is open now when its server says something, and lose that."""
        self._to_lose |= self._clients

    def lose_answers_to(self, words: bytes | None) -> None:
        """From now on cut each connection whose client says this when its server answers, and lose
        the answer; ``None`` ends that."""
        self._fatal = words

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self.target is None:
                self.refused.set()
                return
            with suppress(ConnectionError):
                onward, behind = await asyncio.open_connection("127.0.0.1", self.target)
                self._writers.add(behind)
                self._clients.add(writer)
                await asyncio.gather(
                    self._pump(reader, behind, client=writer), self._pump(onward, writer)
                )
                self._writers.discard(behind)
        finally:
            self._writers.discard(writer)
            self._clients.discard(writer)
            self._to_lose.discard(writer)
            writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter | None = None,
    ) -> None:
        try:
            with suppress(ConnectionError):
                while data := await reader.read(CHUNK):
                    await self._flows.wait()
                    if writer in self._to_lose:
                        return
                    if client is not None and self._fatal is not None and self._fatal in data:
                        self._to_lose.add(client)
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()
