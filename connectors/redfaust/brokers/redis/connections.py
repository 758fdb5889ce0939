"""Connections that write their commands in C, and fail with errors of redis-py alone.

Redis-py packs commands in C in its synchronous client alone. An appending script has thousands of
arguments, and packing them in Python costs more than all else that is done for an entry.

A transport of uvloop that was closed a moment ago raises ``RuntimeError`` where it is written to.
Nobody expects that of a lost connection.
"""

from __future__ import annotations

from typing import Any

import hiredis
from redis.asyncio import Connection, SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError


class PackedConnection(Connection):
    """A plain one."""

    def pack_command(self, *args: Any) -> list[bytes]:
        return _pack(*args)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise RedisConnectionError(f"the connection was lost: {error}") from error


class PackedSSLConnection(PackedConnection, SSLConnection):
    """One with TLS."""


class PackedSentinelConnection(PackedConnection, SentinelManagedConnection):
    """One to the primary that Sentinels name."""

    async def connect_to(self, address: Any) -> None:
        await super().connect_to(address)  # type: ignore[no-untyped-call]
        try:
            self.connection_pool.check(self)
        except RedisError:
            await self.disconnect()
            raise

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        # A client of a single connection comes here first after it was lost, and redis-py would
        # connect to the same server again without asking a Sentinel.
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        await super().send_packed_command(command, check_health)


class PackedSentinelSSLConnection(PackedSentinelConnection, SentinelManagedSSLConnection):
    """The same with TLS."""


def packed(encrypted: bool) -> type[PackedConnection]:
    """The class of plain connections to a server."""
    return PackedSSLConnection if encrypted else PackedConnection


def _pack(name: str | bytes, *arguments: Any) -> list[bytes]:
    # Redis-py gives some commands' names with a space, and Redis wants two arguments.
    words = name.encode().split() if isinstance(name, str) else name.split()
    return [hiredis.pack_command((*words, *arguments))]
