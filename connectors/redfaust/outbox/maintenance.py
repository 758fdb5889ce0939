"""What has to be done every few seconds beside publishing."""

from __future__ import annotations

import asyncio

from redfaust.outbox.batch_cleaner import BatchCleaner
from redfaust.outbox.batch_publisher import BatchPublisher, Logs
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load

EVERY = 2.0
"""Seconds between two rounds."""
LEFT_AFTER = 5.0
"""Seconds after which somebody else publishes what its owner has committed and not published."""


class Maintenance:
    """Restores what the broker has lost, and deletes what nobody needs any more.

    For the producers that the batch publisher follows, or for ``everybody``: then what others have
    left is published as well.
    """

    def __init__(
        self, database: Database, logs: Logs, batch_publisher: BatchPublisher, *, everybody: bool
    ) -> None:
        self._database = database
        self._logs = logs
        self._batch_publisher = batch_publisher
        self._everybody = everybody
        self._batch_cleaner = BatchCleaner(database, logs, batch_publisher)
        self._incarnation: str | None = None
        self._due_at = 0.0

    @property
    def seconds_until_due(self) -> float:
        """0 if it is due now."""
        return max(0.0, self._due_at - asyncio.get_running_loop().time())

    def hurry(self) -> None:
        """Let it be due now: the connection to the broker was lost, and another one may answer."""
        self._due_at = 0.0

    async def keep(self) -> None:
        """One round. Raises what broker and database raise."""
        self._due_at = asyncio.get_running_loop().time() + EVERY
        producer_ids = (
            await self._all_producers() if self._everybody else self._batch_publisher.followed
        )
        incarnation = await self._batch_publisher.find_incarnation()
        if incarnation != self._incarnation:
            await self._batch_publisher.restore(producer_ids)
            self._incarnation = self._batch_publisher.incarnation = incarnation
        await self._batch_publisher.retry_held()
        if self._everybody:
            await self._batch_publisher.publish_left(LEFT_AFTER)
        await self._batch_cleaner.delete_passed(producer_ids)

    async def _all_producers(self) -> list[str]:
        async with self._database.transaction() as connection:
            rows = await connection.fetch(load("redfaust.outbox", "select_producers"))
        return [row["producer_id"] for row in rows]
