from __future__ import annotations

import asyncio
from contextlib import suppress

from faust.types import TP

from connectors.transports.membership import Membership
from connectors.transports.memory.broker import MemoryBroker

PATIENCE = 10.0


async def test_a_stop_is_heard_that_is_swallowed_while_partitions_are_taken() -> None:
    taking = asyncio.Event()

    async def swallow(_: frozenset[TP]) -> None:
        taking.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    broker = MemoryBroker("memory://membership", default_partitions=1)
    membership = Membership(broker, "group", on_change=swallow)
    membership.want(frozenset({TP("topic", 0)}))
    running = asyncio.create_task(membership.run())
    await asyncio.wait_for(taking.wait(), PATIENCE)
    running.cancel()
    ended, _ = await asyncio.wait({running}, timeout=PATIENCE)
    assert ended
    assert running.cancelled()
