"""Publishes what a process has committed, while its next commit is on its way."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Collection, Mapping, Sequence
from contextlib import suppress

import asyncpg
from faust.types import TP

from redfaust.errors import (
    BrokerUnavailable,
    DatabaseUnavailable,
    ProducerFenced,
    RedfaustError,
)
from redfaust.outbox.batch_publisher import BatchPublisher, DeadLetterEntry, Logs
from redfaust.outbox.entries import BATCH_BYTES, Staged
from redfaust.outbox.maintenance import Maintenance
from redfaust.outbox.producers import ProducerState
from redfaust.postgres.database import Database

MAX_UNPUBLISHED = 10_000
"""Entries that may wait to be published; committing more waits."""
MAX_UNPUBLISHED_BYTES = 64 << 20
"""Bytes that may wait to be published; committing more waits."""
ROUND = 2_000
"""Entries after which no further batch joins those that are published in one go. Nor does one that
would make them larger than :data:`~redfaust.outbox.entries.BATCH_BYTES`."""
RETRY_EVERY = 0.5
"""Seconds between two attempts while broker or database are away."""

logger = logging.getLogger(__name__)


class Publisher:
    """Publishes the batches of the producers that one process owns, each producer strictly in
    order.

    An entry that the broker refuses for good is set aside; nothing else is passed over.
    """

    def __init__(self, database: Database, logs: Logs, *, dead_letter: DeadLetterEntry) -> None:
        self._batch_publisher = BatchPublisher(database, logs, dead_letter=dead_letter)
        self._maintenance = Maintenance(database, logs, self._batch_publisher, everybody=False)
        self._owned: dict[str, ProducerState] = {}
        self._waiting: deque[Staged] = deque()
        self._waiting_bytes = 0
        self._put = 0
        self._published = 0
        self._is_closed = False
        self._news = asyncio.Event()
        self._progress = asyncio.Condition()

    @property
    def blocked(self) -> Mapping[TP, str]:
        """The logs that take nothing until somebody mends them, with the reasons."""
        return self._batch_publisher.blocked

    async def take_over(self, transactional_ids: Collection[str]) -> Mapping[str, ProducerState]:
        """Own the producers of these transactional ids as well, which are not owned yet.

        The caller has fenced off who owned them before. What is left of them is published first,
        and their numbers are raised above all last sequences, so that a database that was set back
        does not use a number again. Returns the producer of each transactional id.

        Raises what broker and database raise; then nothing new is owned: call it again.
        """
        gained = await self._batch_publisher.take_over(transactional_ids)
        self._owned |= gained
        return gained

    async def let_go(self, transactional_ids: Collection[str]) -> None:
        """Own the producers of these transactional ids no more. Harmless where they are not
        owned."""
        lost = [
            self._owned.pop(transactional_id)
            for transactional_id in transactional_ids
            if transactional_id in self._owned
        ]
        await self._batch_publisher.forget([producer.id for producer in lost])

    def put(self, staged: Sequence[Staged]) -> None:
        """Publish what was committed, soon. Those of producers that were lost are left to their
        heir.

        Raises :class:`~redfaust.errors.ProducerFenced` if a batch does not follow the one that
        was put before: what is between them was committed, perhaps, and would be passed over.
        """
        transactional_ids = {
            producer.id: transactional_id for transactional_id, producer in self._owned.items()
        }
        for batch in staged:
            transactional_id = transactional_ids.get(batch.producer_id)
            if transactional_id is None:
                continue
            last_sequence = self._owned[transactional_id].last_sequence
            if batch.first_sequence != last_sequence + 1:
                raise ProducerFenced(
                    f"{batch.first_sequence} does not follow {last_sequence} on the producer of "
                    f"{transactional_id}: take it over again before sending"
                )
            self._owned[transactional_id] = ProducerState(batch.producer_id, batch.last_sequence)
            self._waiting.append(batch)
            self._waiting_bytes += batch.size
            self._put += len(batch.entries)
        self._news.set()

    async def has_room(self) -> None:
        """Wait while more than ``MAX_UNPUBLISHED`` entries, or ``MAX_UNPUBLISHED_BYTES``, are not
        published."""
        async with self._progress:
            await self._progress.wait_for(
                lambda: (
                    self._put - self._published <= MAX_UNPUBLISHED
                    and self._waiting_bytes <= MAX_UNPUBLISHED_BYTES
                )
            )

    async def drained(self) -> None:
        """Wait until everything that was put up to now is published, or left to an heir."""
        goal = self._put
        async with self._progress:
            await self._progress.wait_for(lambda: self._published >= goal)

    def close(self) -> None:
        """Publish no more, since the database is about to be closed. What is left is its heir's."""
        self._is_closed = True
        self._news.set()

    async def run(self) -> None:
        """Publish until closed or cancelled. While broker or database are away this tries again."""
        while not self._is_closed:
            if not self._maintenance.seconds_until_due:
                await self._try(self._maintenance.keep())
            elif self._waiting:
                await self._publish(self._next_round())
            else:
                self._news.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._maintenance.seconds_until_due):
                        await self._news.wait()

    async def _publish(self, batches: Sequence[Staged]) -> None:
        if not await self._try(self._batch_publisher.publish(batches)):
            self._maintenance.hurry()
            await asyncio.sleep(RETRY_EVERY)
            return
        # Not before: if this is cancelled, what follows must not pass them.
        for _ in batches:
            self._waiting_bytes -= self._waiting.popleft().size
        async with self._progress:
            self._published += sum(len(batch.entries) for batch in batches)
            self._progress.notify_all()

    def _next_round(self) -> list[Staged]:
        batches: list[Staged] = []
        count = size = 0
        for batch in self._waiting:
            count += len(batch.entries)
            size += batch.size
            if batches and size > BATCH_BYTES:
                break
            batches.append(batch)
            if count >= ROUND:
                break
        return batches

    async def _try(self, step: Awaitable[object]) -> bool:
        try:
            await step
        except (BrokerUnavailable, DatabaseUnavailable) as error:
            if not self._is_closed:
                logger.warning("Publishing waits: %s", error)
        except (RedfaustError, asyncpg.PostgresError) as error:
            logger.error("Publishing waits for something to be mended: %s", error)
        else:
            return True
        return False
