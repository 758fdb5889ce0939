"""How long it takes until work goes on when a fault is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from uuid import UUID

from faust.types import TP

from redfaust.brokers.broker import Broker
from redfaust.errors import BrokerUnavailable, DatabaseUnavailable
from redfaust.postgres.database import Database
from tests.torture.faults import Fault
from tests.torture.ledger import APP, ENTRIES, PARTITIONS, TRANSFERS

LOOK_EVERY = 0.25
"""Seconds between two looks."""
WORTH_TELLING = 10.0
"""Seconds without progress that are logged as they happen."""

logger = logging.getLogger(__name__)


class Progress:
    """Looks at each partition that agents read.

    Of one that has something left, something has to be committed. How long nothing is, is counted
    from the last fault's healing, or from the last commit, whichever is later; while a fault lasts,
    nothing is counted.
    """

    def __init__(self, broker: Broker, database: Database) -> None:
        self._broker = broker
        self._database = database
        self._moved: dict[TP, float] = {}
        self._batches: Mapping[TP, UUID | None] = {}
        self._last: Fault | None = None
        self._healed = 0.0
        self._lasts = False
        self.longest: dict[Fault, float] = {}
        """Seconds without progress of some partition, after each kind of fault."""

    def struck(self) -> None:
        """A fault begins."""
        self._lasts = True

    def healed(self, fault: Fault) -> None:
        """It is over."""
        self._last, self._lasts = fault, False
        self._healed = asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                async with asyncio.timeout(WORTH_TELLING):
                    await self._look()
            except (BrokerUnavailable, DatabaseUnavailable, TimeoutError):
                continue  # then it is counted by the next look that succeeds

    async def _look(self) -> None:
        tps = [TP(topic, n) for topic in (TRANSFERS, ENTRIES) for n in range(PARTITIONS)]
        bounds = await self._broker.bounds(tps)
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                "SELECT topic, partition, position, batch FROM redfaust.positions WHERE app = $1",
                APP,
            )
        positions = {TP(row["topic"], row["partition"]): int(row["position"]) for row in rows}
        batches = {TP(row["topic"], row["partition"]): row["batch"] for row in rows}
        now = asyncio.get_running_loop().time()
        for tp, (first, end) in bounds.items():
            is_done = positions.get(tp, first) >= end
            if is_done or tp not in self._moved or batches.get(tp) != self._batches.get(tp):
                self._moved[tp] = now
            elif not self._lasts and self._last is not None:
                self._note(tp, self._last, now - max(self._moved[tp], self._healed))
        self._batches = batches

    def _note(self, tp: TP, fault: Fault, seconds: float) -> None:
        before = self.longest.get(fault, 0.0)
        if seconds > before:
            self.longest[fault] = seconds
            if before < WORTH_TELLING <= seconds:
                logger.warning("%s does not go on after: %s", tp, fault.value)
