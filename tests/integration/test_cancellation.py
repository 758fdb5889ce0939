"""A task that is cancelled while it talks to Redis ends."""

from __future__ import annotations

import asyncio

from redfaust.brokers.redis import RedisBroker

MOMENTS = 60
"""Turns of the event loop: more than a command takes."""


async def test_a_cancellation_at_any_moment_of_a_command_is_heard(any_broker_url: str) -> None:
    broker = RedisBroker(any_broker_url, default_partitions=4)
    await broker.open()

    async def ask_on_and_on() -> None:
        while True:
            await broker.topics()

    for moment in range(MOMENTS):
        asking = asyncio.create_task(ask_on_and_on())
        for _ in range(moment):
            await asyncio.sleep(0)
        asking.cancel()
        done, _ = await asyncio.wait({asking}, timeout=1)
        assert done, f"it goes on when it is cancelled after {moment} turns"
        assert asking.cancelled()
    await broker.close()
