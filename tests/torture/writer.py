"""Writes the planned transfers while everything that it writes to is killed.

It must know of each write whether it happened, so it looks after each error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg

from redfaust.errors import DatabaseUnavailable
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database
from tests.torture.appending import Appending
from tests.torture.history import NUMBER
from tests.torture.ledger import TRANSFERS
from tests.torture.plan import Plan, Route, Step

RETRY_EVERY = 0.1
"""Seconds between two attempts while a server is away."""
CREATE = "CREATE TABLE IF NOT EXISTS written (number bigint PRIMARY KEY)"
"""The plain table that transactions write beside their events."""


class TakenBack(Exception):
    """The transaction is rolled back on purpose."""


class Writer:
    """Writes the steps of a plan, those of each route in their order, spread over some seconds."""

    def __init__(self, plan: Plan, appending: Appending, database: Database) -> None:
        self._plan = plan
        self.appending = asyncio.Lock()
        """Held while something is appended, and by whoever wants that to wait."""
        self._appending = appending
        self._outbox = Outbox(database)
        self._untold = 0

    @property
    def unsure(self) -> int:
        """Writes whose answer was lost."""
        return self._untold + self._appending.unsure

    async def run(self, seconds: float) -> None:
        """Write everything."""
        async with asyncio.TaskGroup() as group:
            for route in Route:
                steps = [step for step in self._plan.steps if step.route is route]
                group.create_task(self._write_all(steps, seconds))
        await self._appending.close()

    async def _write_all(self, steps: Sequence[Step], seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        for place, step in enumerate(steps):
            await asyncio.sleep(started + place * seconds / len(steps) - clock())
            if step.route is Route.XADD:
                async with self.appending:
                    await self._appending.append(step.transfers)
            else:
                await self._transact(step)

    async def _transact(self, step: Step) -> None:
        while True:
            try:
                await self._try_to_transact(step)
            except DatabaseUnavailable:
                self._untold += 1
                await asyncio.sleep(RETRY_EVERY)
            except (TakenBack, asyncpg.UniqueViolationError):
                return  # the latter: its commit was not answered, but happened
            else:
                return

    async def _try_to_transact(self, step: Step) -> None:
        async with self._outbox.transaction() as tx:
            await tx.connection.executemany(
                "INSERT INTO written (number) VALUES ($1)",
                [(transfer.number,) for transfer in step.transfers],
            )
            for transfer in step.transfers:
                await tx.publish(
                    TRANSFERS,
                    transfer.value,
                    key=transfer.payer,
                    headers={NUMBER: str(transfer.number)},
                )
            if step.taken_back:
                raise TakenBack
