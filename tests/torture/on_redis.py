"""Faults of Redis.

What others append is as durable as Redis is. So where a replica is promoted, the writer appends
nothing from when the replica has everything until it is the primary. Everybody else goes on, and
what they publish meanwhile is lost, to be published again.
"""

from __future__ import annotations

import asyncio
from random import Random

from tests.torture.clock import LIBRARY, NOTICED_WITHIN, ONE_HOUR
from tests.torture.faults import Fault
from tests.torture.redis_pair import Node, Pair
from tests.torture.strikes import Impossible, Strikes

CLOCK_WRONG_FOR = 5.0
"""Seconds at most."""
CUT_OFF_FOR = 2.0
"""Seconds at most for which a primary that was succeeded is still alone with its clients."""


class OnRedis:
    """Hits the two servers of a pair; ``appending`` is held by whoever appends."""

    def __init__(self, seed: int, pair: Pair, appending: asyncio.Lock) -> None:
        self._choose = Random(f"on Redis {seed}")
        self._pair = pair
        self._appending = appending

    @property
    def strikes(self) -> Strikes:
        return {
            Fault.REDIS_KILLED: self._kill,
            Fault.REDIS_DIED: self._let_die,
            Fault.REDIS_CUT_OFF: self._cut_off,
            Fault.REDIS_CLOCK: self._move_clock,
            Fault.CLIENTS_KILLED: self._kill_clients,
        }

    async def _kill(self) -> None:
        primary = await self._pair.in_step()
        await primary.kill()
        await primary.start()

    async def _let_die(self) -> None:
        async with self._appending:
            primary = await self._pair.in_step()
            await primary.kill()
            try:
                await self._pair.succeeded(primary)
            finally:
                await primary.start()
                await primary.follow(await self._pair.primary())

    async def _cut_off(self) -> None:
        async with self._appending:
            primary = await self._pair.in_step()
            await primary.let_nobody_in()
            try:
                await self._pair.succeeded(primary)
                await asyncio.sleep(self._choose.uniform(0, CUT_OFF_FOR))
            finally:
                await self._mend(primary)

    async def _mend(self, node: Node) -> None:
        primary = await self._pair.primary()
        if primary is not node:
            await node.follow(primary)
        await node.let_in()
        await node.kill_clients()

    async def _move_clock(self) -> None:
        if LIBRARY is None:
            raise Impossible("libfaketime is not installed (Debian's package faketime)")
        clock = self._choose.choice(self._pair.nodes).clock
        clock.move(self._choose.choice((-ONE_HOUR, ONE_HOUR)))
        try:
            await asyncio.sleep(NOTICED_WITHIN + self._choose.uniform(0, CLOCK_WRONG_FOR))
        finally:
            clock.move(0)

    async def _kill_clients(self) -> None:
        await (await self._pair.primary()).kill_clients()
