"""Connections that write their commands in C.

Redis-py has that in its synchronous client alone. An appending script has thousands of arguments,
and packing them in Python costs more than all else that is done for an entry.
"""

from __future__ import annotations

from typing import Any

import hiredis
from redis.asyncio import Connection, Redis, SSLConnection


class PackedConnection(Connection):
    """A plain one."""

    def pack_command(self, *args: Any) -> list[bytes]:
        return _pack(*args)


class PackedSSLConnection(SSLConnection):
    """One with TLS."""

    def pack_command(self, *args: Any) -> list[bytes]:
        return _pack(*args)


def pack_in_c(client: Redis) -> Redis:
    """Let the client use such connections."""
    pool = client.connection_pool
    encrypted = issubclass(pool.connection_class, SSLConnection)
    pool.connection_class = PackedSSLConnection if encrypted else PackedConnection
    return client


def _pack(name: str | bytes, *arguments: Any) -> list[bytes]:
    # Redis-py gives some commands' names with a space, and Redis wants two arguments.
    words = name.encode().split() if isinstance(name, str) else name.split()
    return [hiredis.pack_command((*words, *arguments))]
