"""Hearing what is notified in Postgres, on a connection that is opened when somebody listens."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redfaust.brokers.kafka.store import Store
from redfaust.errors import BrokerError


class Listener:
    """Listens on one channel."""

    def __init__(self, store: Store, channel: str) -> None:
        self._store = store
        self._channel = channel
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._listening: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @asynccontextmanager
    async def hearing(self, what: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set by notifications of ``what``, from the beginning of the block on.

        It is set as well when the connection is lost. Raises BrokerUnavailable if there is none.
        """
        await self._connected()
        news = asyncio.Event()
        self._waiting[what].add(news)
        try:
            yield news
        finally:
            self._waiting[what].discard(news)

    async def close(self) -> None:
        """Disconnect."""
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError, BrokerError):
                await self._listening

    async def _connected(self) -> None:
        if self._listening is None or self._listening.done():
            self._ready = asyncio.Event()
            self._listening = asyncio.create_task(self._listen(self._ready))
        ready = asyncio.ensure_future(self._ready.wait())
        try:
            await asyncio.wait({self._listening, ready}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._listening.done():
            self._listening.result()

    async def _listen(self, ready: asyncio.Event) -> None:
        lost = asyncio.Event()
        try:
            async with self._store.dedicated() as connection:
                connection.add_termination_listener(lambda _: lost.set())
                await connection.add_listener(self._channel, self._tell)
                ready.set()
                await lost.wait()
        finally:
            for events in self._waiting.values():
                for event in events:
                    event.set()

    def _tell(self, _connection: object, _process: int, _channel: str, what: object) -> None:
        for event in self._waiting.get(str(what), ()):
            event.set()
