"""The primary that Sentinels name, also after they have named another one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain
from typing import Any, cast
from weakref import WeakSet

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from redfaust.brokers.redis.address import Address, Host
from redfaust.brokers.redis.client import our_errors
from redfaust.brokers.redis.connections import (
    PackedSentinelConnection,
    PackedSentinelSSLConnection,
    packed,
)
from redfaust.errors import BrokerError

LOOK_EVERY = 1.0
"""Seconds between two questions to the Sentinels who the primary is."""

ANSWER_TIMEOUT = 1.0
"""Seconds until a Sentinel that does not answer is passed over for the next one."""

logger = logging.getLogger(__name__)


class PrimaryPool(SentinelConnectionPool):
    """Connections to the primary, each made to whoever that is at the time."""

    def __init__(self, primary: Primary, sentinel: Sentinel, **options: Any) -> None:
        super().__init__(primary.name, sentinel, **options)  # type: ignore[no-untyped-call]
        self._primary = primary

    async def get_master_address(self) -> Host:
        """Where a new connection leads. No other of this process leads elsewhere then."""
        address = cast("Host", await super().get_master_address())  # type: ignore[no-untyped-call]
        await self._primary.move(address)
        return address

    def check(self, connection: SentinelManagedConnection) -> None:
        """Raise ConnectionError if another primary was named while this connection was made."""
        if (connection.host, connection.port) != self._primary.named:
            raise RedisConnectionError("another primary was named meanwhile")

    async def leave_all_but(self, address: Host) -> bool:
        """Cut connections to other servers, also those that somebody waits on for an answer.

        Returns whether there were any.
        """
        connections = chain(self._available_connections, self._in_use_connections)
        cut = [
            each
            for each in cast("Iterable[SentinelManagedConnection]", connections)
            if each.is_connected and (each.host, each.port) != address
        ]
        await asyncio.gather(*(each.disconnect() for each in cut), return_exceptions=True)
        return bool(cut)


class Primary:
    """Pools of connections that lead to whoever is the primary.

    Each connection asks the Sentinels when it is made. That is not enough: a primary that is cut
    off from everybody else keeps its clients, who would write what will be lost. So they are
    disconnected once the Sentinels name another one, and before the first connection to that one is
    used: what a process learns of one server must not be about entries that it appends to another.
    """

    def __init__(self, shown: str, address: Address) -> None:
        self._shown = shown
        self._address = address
        self._sentinel = Sentinel(())  # type: ignore[no-untyped-call]
        self._sentinel.sentinels = [Redis.from_pool(_pool(host, address)) for host in address.hosts]
        self._pools: WeakSet[PrimaryPool] = WeakSet()
        self._moving = asyncio.Lock()
        self.name = address.name
        """What the Sentinels call it."""
        self.named: Host | None = None
        """The address that they named last."""
        self._watching: asyncio.Task[None] | None = None

    def pool(self, options: Mapping[str, Any]) -> PrimaryPool:
        """Connections to the primary with these options."""
        encrypted = self._address.encrypted
        pool = PrimaryPool(
            self,
            self._sentinel,
            connection_class=PackedSentinelSSLConnection if encrypted else PackedSentinelConnection,
            **{**options, **self._address.options},
        )
        self._pools.add(pool)
        return pool

    async def prove(self, client: Redis) -> None:
        """Make sure that there is a primary. Raises BrokerError if the URL has to be corrected."""
        try:
            await client.ping()
        except (MasterNotFoundError, ResponseError):
            await self._explain()
            raise

    async def _explain(self) -> None:
        names: set[str] = set()
        for sentinel in self._sentinel.sentinels:
            try:
                masters = cast("dict[str, Any]", await sentinel.sentinel_masters())
            except AuthenticationError as error:
                raise BrokerError(
                    f"A Sentinel of {self._shown} wants another password: add "
                    "?sentinel_password=… (and sentinel_username) to the broker's URL"
                ) from error
            except ResponseError as error:
                raise BrokerError(
                    f"A host of {self._shown} is no Sentinel ({error}): "
                    "write redis:// or redis+cluster:// if it is a Redis"
                ) from error
            except (RedisError, OSError):
                continue
            names.update(masters)
        if names and self.name not in names:
            raise BrokerError(
                f"The Sentinels of {self._shown} know no primary of this name, but "
                f"{', '.join(sorted(names))}: correct it in the broker's URL"
            )

    def watch(self) -> None:
        """Follow the Sentinels until :meth:`close`."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                with our_errors(self._shown):
                    named = await self._sentinel.discover_master(self.name)
            except BrokerError:
                continue  # as long as the primary answers, nobody needs to know
            await self.move(named)

    async def move(self, named: Host) -> None:
        """Let all connections lead there; those that lead elsewhere are cut."""
        async with self._moving:
            self.named = named
            if any([await pool.leave_all_but(named) for pool in list(self._pools)]):
                logger.warning("The primary of %s is now %s:%s", self._shown, *named)

    async def close(self) -> None:
        """Stop watching, and disconnect from the Sentinels."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
            self._watching = None
        await self._sentinel.aclose()


def _pool(sentinel: Host, address: Address) -> ConnectionPool:
    """Connections to a Sentinel."""
    host, port = sentinel
    return ConnectionPool(
        connection_class=packed(address.encrypted),
        **{
            "host": host,
            "port": port,
            "protocol": 2,
            "socket_connect_timeout": ANSWER_TIMEOUT,
            "socket_timeout": ANSWER_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            **address.sentinel_options,
        },
    )
