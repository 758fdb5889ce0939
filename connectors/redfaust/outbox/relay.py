"""Carries committed rows of the outbox onto their topics, each once.

A row is claimed into a batch of the relay's producer, and the batch is published as those of all
producers are (:mod:`redfaust.outbox.batch_publisher`). The relay also maintains the batches of all
producers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias

import asyncpg
from faust.types import TP

from redfaust import failpoints
from redfaust.errors import RedfaustError
from redfaust.outbox.batch_publisher import LEFT_OUT, BatchPublisher, DeadLetterEntry, Logs
from redfaust.outbox.entries import BATCH_BYTES, staged
from redfaust.outbox.maintenance import Maintenance
from redfaust.outbox.producers import ProducerState
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load

CHANNEL = "redfaust_outbox"
"""What an insert into the outbox notifies."""
LOCK = 0x7265_6466_0002
"""Key of the session's advisory lock that makes one relay the active one."""
PRODUCER = "relay"
"""As which a relay has its producer."""
SILENT_FOR = 6.0
"""Seconds that a relay may say nothing to the database beyond what it rests. Then it is succeeded,
even if it is only stopped; as long as partitions wait for their owner."""
SPARE_POLL = 1.0
"""Seconds between a spare's attempts to become the active relay."""

WAITED_OUT = (RedfaustError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""After these errors of :meth:`Relay.run` nothing is lost, and whoever runs it should run it again:
broker or database may answer then, or somebody has mended them."""

_Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def in_one_line(error: BaseException) -> str:
    """What an error says, without the lines that Postgres adds as detail."""
    return next(iter(str(error).splitlines()), type(error).__name__)


async def try_to_lead(session: _Session, silent_for: float) -> bool:
    """Whether the session belongs to the active relay now: until it ends, or has been silent for
    so many seconds."""
    return bool(await session.fetchval(_query("try_lock"), LOCK, f"{silent_for * 1000:.0f}ms"))


class Relay:
    """Publishes due rows, at most ``batch`` at a time, and looks for them every ``poll`` seconds
    even if no notification came.

    Rows without ``available_at`` go in the order of their ids, scheduled ones in the order in
    which they come due. The lock belongs to the connection, so a dead relay is succeeded within
    ``SPARE_POLL`` seconds of Postgres noticing, and one that was stopped after ``SILENT_FOR``. It
    saves work: what is published stays right without it.
    """

    def __init__(
        self,
        database: Database,
        logs: Logs,
        *,
        dead_letter: DeadLetterEntry,
        batch: int = 500,
        poll: float = 1.0,
    ) -> None:
        self._database = database
        self._batch_publisher = BatchPublisher(database, logs, dead_letter=dead_letter)
        self._maintenance = Maintenance(database, logs, self._batch_publisher, everybody=True)
        self._batch = batch
        self._poll = poll
        self._wake = asyncio.Event()
        self.active = False
        """Whether this relay publishes, or waits as a spare."""

    @property
    def published(self) -> int:
        """Entries published since the start."""
        return self._batch_publisher.published

    @property
    def blocked(self) -> Mapping[TP, str]:
        """The logs that take nothing until somebody mends them, with the reasons."""
        return self._batch_publisher.blocked

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until ``stop``; a batch that has begun is finished.

        Raises :data:`WAITED_OUT`: :class:`~redfaust.errors.DatabaseUnavailable` when its
        connection is lost, and whatever broker and database raise. Then nothing is lost, and run
        may be called again.
        """
        watcher = asyncio.create_task(self._wake_at(stop))
        try:
            async with self._database.dedicated() as session:
                session.add_termination_listener(lambda _: self._wake.set())
                await session.add_listener(CHANNEL, lambda *_: self._wake.set())
                if await self._lead(session, stop):
                    self.active = True
                    leave_out = LEFT_OUT
                    while not stop.is_set():
                        producers = await self._batch_publisher.take_over(
                            [PRODUCER], leave_out=leave_out
                        )
                        await self._relay(session, producers[PRODUCER], stop)
                        leave_out = 0
        finally:
            self.active = False
            watcher.cancel()

    async def _lead(self, session: _Session, stop: asyncio.Event) -> bool:
        while not stop.is_set():
            self._wake.clear()
            if await try_to_lead(session, SILENT_FOR + self._poll):
                return True
            await self._rest(SPARE_POLL)
        return False

    async def _relay(self, session: _Session, producer: ProducerState, stop: asyncio.Event) -> None:
        """Publish until ``stop``, or until somebody else has claimed rows."""
        while not stop.is_set():
            self._wake.clear()
            if not self._maintenance.seconds_until_due:
                await self._maintenance.keep()
            rows = await session.fetch(_query("claim_due"), *producer, self._batch, BATCH_BYTES)
            if rows:
                failpoints.point("relay.claimed")
                [batch] = staged(rows)
                await self._batch_publisher.publish([batch])
                producer = ProducerState(batch.producer_id, batch.last_sequence)
                continue
            pause = await session.fetchrow(_query("select_pause"), producer.id)
            assert pause is not None
            if pause["last_sequence"] != producer.last_sequence:
                return
            await self._rest(self._seconds_until(pause["seconds_until_due"]))

    def _seconds_until(self, seconds: float | None) -> float:
        return self._poll if seconds is None else min(max(seconds, 0.0), self._poll)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()


def _query(name: str) -> str:
    return load("redfaust.outbox", name)
