"""A worker's membership in its group.

::

    OUTSIDE ──want──▶ STANDING_BY ──acquire──▶ OWNER ──┐
                          ▲                      │  ▲  │ start_over
                          └─ lost, or give_up ───┘  └──┘
    any ──leave──▶ OUTSIDE
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable

from faust.types import TP

from connectors import crash
from connectors.errors import BrokerUnavailable
from connectors.transports.broker import Broker

PATIENCE = 0.25
"""Seconds after which a worker that got no partitions says that it stands by."""

RELEASE_FOR = 1.0
"""Seconds that handing over may take."""

logger = logging.getLogger(__name__)


class Standing(enum.Enum):
    """Where a worker stands in its group."""

    OUTSIDE = "outside"
    STANDING_BY = "standing by"
    OWNER = "owner"


class Membership:
    """Turns claims and losses of partitions into calls of ``on_change``, one at a time."""

    def __init__(
        self,
        broker: Broker,
        group: str,
        *,
        on_change: Callable[[frozenset[TP]], Awaitable[None]],
    ) -> None:
        self.member = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.standing = Standing.OUTSIDE
        self._on_change = on_change
        self._ownership = broker.ownership(group, self.member)
        self._wanted: frozenset[TP] = frozenset()
        self._changed = asyncio.Event()
        self._anew = self._give_up = False

    @property
    def owns(self) -> bool:
        """Whether the partitions are this worker's at this moment, as far as its clock knows."""
        return self.standing is Standing.OWNER and self._ownership.held

    def want(self, tps: frozenset[TP]) -> None:
        """Say which partitions there are to be worked on."""
        if tps != self._wanted:
            self._wanted = tps
            self._changed.set()

    def start_over(self) -> None:
        """Have all partitions taken away and given again."""
        self._anew = True
        self._changed.set()

    def give_up(self) -> None:
        """Stand by, since somebody else has taken the partitions."""
        self._give_up = True
        self._changed.set()

    async def run(self) -> None:
        """Claim, hold and lose partitions until cancelled."""
        await self._changed.wait()
        while True:
            self.standing = Standing.STANDING_BY
            await self._acquire()
            crash.point("lease.acquired")
            self.standing = Standing.OWNER
            await self._own()
            logger.warning("The partitions were lost to another worker; standing by")
            await self._change(frozenset())
            # Not before: it is this member's to hand over if the lease had not ended.
            await self._release()

    async def _acquire(self) -> None:
        acquiring = asyncio.ensure_future(self._ownership.acquire())
        try:
            done, _ = await asyncio.wait({acquiring}, timeout=PATIENCE)
            if not done:
                logger.info("%s stands by: another worker owns the partitions", self.member)
                # Faust's worker is ready after its first rebalance, even one without partitions.
                await self._change(frozenset())
            await acquiring
        finally:
            acquiring.cancel()

    async def _own(self) -> None:
        keeping = asyncio.ensure_future(self._ownership.keep())
        try:
            while not (keeping.done() or self._give_up):
                self._changed.clear()
                if self._anew:
                    self._anew = False
                    await self._change(frozenset())
                await self._change(self._wanted)
                logger.info("%s works on %s partitions", self.member, len(self._wanted))
                changed = asyncio.ensure_future(self._changed.wait())
                try:
                    await asyncio.wait({keeping, changed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
            if keeping.done():
                keeping.result()
        finally:
            self._give_up = False
            keeping.cancel()

    async def _change(self, tps: frozenset[TP]) -> None:
        """Have partitions taken away and given; lose no cancellation meanwhile.

        Before Python 3.12 ``asyncio.wait_for`` swallows one that comes just when it ends
        (python/cpython#86296), and Faust's services sleep by it until they are to stop.
        """
        await self._on_change(tps)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError

    async def leave(self) -> None:
        """Hand over at once."""
        self.standing = Standing.OUTSIDE
        await self._release()

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_FOR):
                await self._ownership.release()
                crash.point("lease.released")
        except (BrokerUnavailable, TimeoutError) as error:
            logger.warning("The partitions will be handed over when their lease ends: %s", error)
