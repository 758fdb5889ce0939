"""The loop on the replies as hiredis has parsed them, past redis-py, with a worker's collector.

Commands are packed by hiredis. Replies come in order, so nothing is needed but a queue of them.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import hiredis
import orjson

from redfaust.gc_tuning import tune_gc
from tests.bench.events import BATCH
from tests.bench.peers.bare.loops import GROUP, STREAMS, filled
from tests.bench.peers.contract import Task, serve

READ_AT_ONCE = 1 << 20
"""Bytes."""


class Connection:
    """To a Redis."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._replies = hiredis.Reader()

    @classmethod
    async def to(cls, url: str) -> Connection:
        """Connected, and logged in."""
        parts = urlsplit(url)
        streams = await asyncio.open_connection(parts.hostname, parts.port, limit=READ_AT_ONCE)
        connection = cls(*streams)
        if parts.password is not None:
            await connection.ask(b"AUTH", parts.username or "default", parts.password)
        return connection

    async def ask(self, *command: Any) -> Any:
        """What is answered."""
        self._writer.write(hiredis.pack_command(command))
        while (reply := self._replies.gets()) is False:
            self._replies.feed(await self._reader.read(READ_AT_ONCE))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def consume(task: Task) -> None:
    """Decode and acknowledge."""
    client = await filled(task)
    await client.aclose()
    connection = await Connection.to(task.url)
    read = [b"XREADGROUP", b"GROUP", GROUP, b"me", b"COUNT", BATCH, b"STREAMS"]
    read += [*STREAMS.keys(), *STREAMS.values()]
    task.begin()
    while not task.done.is_set():
        for stream, entries in await connection.ask(*read):
            for _, (_, _, _, value) in entries:
                task.tick(orjson.loads(value))
            await connection.ask(b"XACK", stream, GROUP, *(entry[0] for entry in entries))
    task.end()
    connection.close()


if __name__ == "__main__":
    tune_gc()
    serve(("hiredis", "orjson"), {"consume": consume})
