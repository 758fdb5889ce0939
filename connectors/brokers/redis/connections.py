"""Connections that write their commands in C.

Redis-py has that in its synchronous client alone. An appending script has thousands of arguments,
and packing them in Python costs more than all else that is done for an entry.
"""

from __future__ import annotations

from typing import Any

import hiredis
from redis.asyncio import Connection, SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection


class PackedConnection(Connection):
    """A plain one."""

    def pack_command(self, *args: Any) -> list[bytes]:
        return _pack(*args)


class PackedSSLConnection(SSLConnection):
    """One with TLS."""

    def pack_command(self, *args: Any) -> list[bytes]:
        return _pack(*args)


class PackedSentinelConnection(SentinelManagedConnection):
    """One to the primary that Sentinels name."""

    def pack_command(self, *args: Any) -> list[bytes]:
        return _pack(*args)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        # A client of a single connection comes here first after it was lost, and redis-py would
        # connect to the same server again without asking a Sentinel.
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        await super().send_packed_command(command, check_health)


class PackedSentinelSSLConnection(PackedSentinelConnection, SentinelManagedSSLConnection):
    """The same with TLS."""


def _pack(name: str | bytes, *arguments: Any) -> list[bytes]:
    # Redis-py gives some commands' names with a space, and Redis wants two arguments.
    words = name.encode().split() if isinstance(name, str) else name.split()
    return [hiredis.pack_command((*words, *arguments))]
