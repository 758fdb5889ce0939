"""One blocking read for all partitions of a node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

from faust.types import TP
from redis.asyncio import ConnectionPool, Redis

from redfaust.brokers.broker import Record
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.bounded import ReplyTooLarge, bound, bound_for, fewer
from redfaust.brokers.redis.client import REPLY_TIMEOUT
from redfaust.brokers.redis.offsets import before
from redfaust.brokers.redis.sequences import Sequences


class StreamReader:
    """Reads with ``XREAD`` on a connection of its own.

    ``XREAD`` rather than ``XREADGROUP``: the owner of a partition knows its position, so no
    pending list is filled that would have to be emptied again, or could leak.
    """

    def __init__(self, pool: ConnectionPool, sequences: Sequences) -> None:
        self._sequences = sequences
        self._client = Redis(connection_pool=pool, single_connection_client=True)
        self._client.auto_close_connection_pool = True
        # The reply as it comes from the wire: turning entries into dicts would only be undone.
        self._client.set_response_callback("XREAD", _as_it_is)  # type: ignore[arg-type]
        self._waiting: asyncio.Task[dict[TP, list[Record]]] | None = None

    async def read(
        self, positions: Mapping[TP, int], *, limit: int, wait: float
    ) -> Mapping[TP, Sequence[Record]]:
        """See :meth:`~redfaust.brokers.broker.Broker.read`."""
        self._waiting = asyncio.create_task(self._read(positions, limit, wait))
        try:
            reply = await self._waiting
        except asyncio.CancelledError:
            if self._waiting.cancelled() and not _cancelled_ourselves():
                return {}
            raise
        finally:
            self._waiting.cancel()
            self._waiting = None
        return reply

    async def _read(
        self, positions: Mapping[TP, int], limit: int, wait: float
    ) -> dict[TP, list[Record]]:
        while True:
            try:
                return await self._read_bounded(positions, limit, wait)
            except ReplyTooLarge:
                positions, limit = fewer(positions, limit)

    async def _read_bounded(
        self, positions: Mapping[TP, int], limit: int, wait: float
    ) -> dict[TP, list[Record]]:
        streams = {keys.stream(tp).encode(): tp for tp in positions}
        last_read = [before(position) for position in positions.values()]
        command = ["XREAD", "COUNT", limit]
        if wait > 0:
            command += ["BLOCK", max(1, int(wait * 1000))]
        async with asyncio.timeout(wait + REPLY_TIMEOUT):
            await self._client.initialize()
            if self._client.connection is not None:
                bound(self._client.connection, bound_for(positions, limit))
            reply = await self._client.execute_command(  # type: ignore[no-untyped-call]
                *command, "STREAMS", *streams, *last_read
            )
        found = dict(cast("list[tuple[bytes, list[Any]]]", reply or []))
        records = await self._sequences.decode(found)
        return {streams[stream]: of_stream for stream, of_stream in records.items()}

    def wake(self) -> None:
        """Make a waiting read return at once. What it would have read, the next one reads."""
        if self._waiting is not None:
            self._waiting.cancel()

    async def close(self) -> None:
        """Disconnect."""
        self.wake()
        await self._client.aclose()


def _as_it_is(reply: object, **_: object) -> object:
    return reply


def _cancelled_ourselves() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
