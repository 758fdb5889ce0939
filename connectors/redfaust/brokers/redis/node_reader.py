"""Reading streams of one node of a cluster, and hearing which of them have changed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

from redis.asyncio import Connection, ConnectionPool
from redis.exceptions import RedisError, ResponseError

from redfaust.brokers.redis.bounded import bound
from redfaust.brokers.redis.client import REPLY_TIMEOUT

INVALIDATIONS = "__redis__:invalidate"
"""The channel on which Redis says which keys have changed."""


class Sought(NamedTuple):
    """What is read of one stream."""

    stream: str
    last_read: str
    """The ID behind which to read."""
    asking: bool = False
    """Whether the stream is on its way to this node."""


class NodeReader:
    """Two connections to a node: one reads streams, the other hears when they change.

    In a cluster one ``XREAD`` reads streams of one slot, so that waiting for many would take a
    connection each. Instead Redis is asked to remember which keys were read (``CLIENT TRACKING``),
    and says so on the second connection, once, when somebody changes one. Reading has to come
    before waiting: then no change is missed.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        changed: Callable[[Collection[bytes] | None], None],
        lost: Callable[[], None],
    ) -> None:
        """``changed`` is told which keys have, or ``None`` if all may have; ``lost`` is called when
        a connection was, outside of a read."""
        self._pool = pool
        self._changed = changed
        self._lost = lost
        self._one_at_a_time = asyncio.Lock()
        self._reads: Connection | None = None
        self._hearing: asyncio.Task[None] | None = None

    async def read(self, limit: int, sought: Sequence[Sought], most: int | None) -> list[Any]:
        """The replies of ``XREAD``, an error in its place, with at most so many bytes.

        Raises redis-py's errors, and TimeoutError; then nothing is known of the streams any more.
        """
        try:
            async with asyncio.timeout(REPLY_TIMEOUT), self._one_at_a_time:
                connection = self._reads or await self._connect()
                bound(connection, most)
                return await _read(connection, limit, sought)
        except BaseException:
            await self.close()
            raise

    async def _connect(self) -> Connection:
        hearer, reader = self._new_connection(), self._new_connection()
        try:
            client_id = await _call(hearer, "CLIENT", "ID")
            await _call(hearer, "SUBSCRIBE", INVALIDATIONS)
            await _call(reader, "CLIENT", "TRACKING", "ON", "REDIRECT", client_id)
        except BaseException:
            await _disconnect(hearer, reader)
            raise
        self._reads = reader
        self._hearing = asyncio.create_task(self._hear(hearer, reader))
        return reader

    def _new_connection(self) -> Connection:
        return cast("Connection", self._pool.make_connection())  # type: ignore[no-untyped-call]

    async def _hear(self, hearer: Connection, reader: Connection) -> None:
        """Until one of the connections is lost; then the other one is of no use."""
        try:
            while True:
                _, _, keys = await hearer.read_response(timeout=math.inf)
                self._changed(keys)
        except (RedisError, OSError):
            self._reads = None
            self._lost()
        finally:
            await _disconnect(hearer, reader)

    async def close(self) -> None:
        """Disconnect; the next read connects again."""
        self._reads = None
        if self._hearing is not None:
            self._hearing.cancel()
            with suppress(asyncio.CancelledError):
                await self._hearing
            self._hearing = None


async def _read(connection: Connection, limit: int, sought: Sequence[Sought]) -> list[Any]:
    commands: list[tuple[Any, ...]] = []
    for stream, last_read, asking in sought:
        if asking:
            commands.append(("ASKING",))
        commands.append(("XREAD", "COUNT", limit, "STREAMS", stream, last_read))
    await connection.send_packed_command([b"".join(connection.pack_command(*c)) for c in commands])
    replies = [await _reply(connection) for _ in commands]
    return [
        reply for command, reply in zip(commands, replies, strict=True) if command[0] == "XREAD"
    ]


async def _reply(connection: Connection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


async def _call(connection: Connection, *arguments: Any) -> Any:
    await connection.send_command(*arguments)
    return await connection.read_response()


async def _disconnect(*connections: Connection) -> None:
    for connection in connections:
        with suppress(RedisError, OSError):
            await connection.disconnect(nowait=True)
