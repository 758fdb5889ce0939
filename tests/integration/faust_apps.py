"""Faust applications that run inside a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import faust


def new_app(
    broker: str, store: str = "memory://", *, name: str = "test", partitions: int = 4
) -> faust.App:
    """An application as somebody else would write it: nothing but URLs."""
    return faust.App(
        name, broker=broker, store=store, web_enabled=False, topic_partitions=partitions
    )


PATIENCE = 20.0
"""Seconds after which something that should happen counts as not happening."""


@asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[faust.App]:
    """An application from its start to its graceful stop."""
    try:
        await asyncio.wait_for(app.start(), PATIENCE)
        yield app
    finally:
        await asyncio.wait_for(app.stop(), PATIENCE)


async def eventually(holds: Callable[[], Awaitable[bool] | bool]) -> None:
    """Return when the condition holds; fail when it does not within ``PATIENCE``.

    For states that nothing announces, such as a row in Postgres.
    """
    async with asyncio.timeout(PATIENCE):
        while True:
            result = holds()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)
