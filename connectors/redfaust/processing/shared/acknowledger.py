"""Has done with events: what they did is committed, then their entries are settled.

::

    finished ──┐            one transaction                      one script a partition
    failed   ──┼──▶ inbox, what they sent, dead letters ──▶ settle what is finished or known
    known    ──┘

One batch at a time; what comes meanwhile is the next one. When something is away a batch is
repeated from its first step: the inbox knows what is committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from redfaust import failpoints
from redfaust.brokers.share_group import ShareGroup
from redfaust.errors import BrokerError, BrokerUnavailable, DatabaseError
from redfaust.processing.dead_letters import name_of, text_of
from redfaust.processing.shared.in_flight import InFlight, offsets_of
from redfaust.processing.shared.inbox import Known
from redfaust.processing.shared.message import SharedMessage, State
from redfaust.processing.shared.store import Effecting

RETRY_EVERY = 0.5
"""Seconds between two attempts while broker or database are away."""

ERROR_LENGTH = 1_000
"""Characters that are noted of an error whose event is tried again."""

logger = logging.getLogger(__name__)


@dataclass
class Batch:
    """What is to be done with in one go."""

    finished: list[SharedMessage] = field(default_factory=list)
    failed: dict[SharedMessage, Known] = field(default_factory=dict)
    known: list[SharedMessage] = field(default_factory=list)
    """Finished by somebody before, or nothing to this agent."""

    def __bool__(self) -> bool:
        return bool(self.finished or self.failed or self.known)


class Acknowledger:
    """Of one agent of this worker."""

    def __init__(
        self,
        in_flight: InFlight,
        share_group: ShareGroup,
        store: Effecting | None,
        *,
        sent: Callable[[], Awaitable[bool]],
    ) -> None:
        self._in_flight = in_flight
        self._share_group = share_group
        self._store = store
        self._sent = sent
        self._batch = Batch()
        self._news = asyncio.Event()
        self.idle = asyncio.Event()
        """Set while there is nothing to be done."""
        self.idle.set()
        self.waits = False
        """Whether something is away, so that no more should be begun."""

    def finish(self, message: SharedMessage) -> None:
        """Have done with a message that the agent has finished or given up."""
        message.state = State.FINISHED
        self._batch.finished.append(message)
        self._notify()

    def fail(self, message: SharedMessage, pause: float, error: Exception) -> None:
        """Have it noted why a message has failed, and that it is postponed for so many seconds."""
        if self._store is not None:
            why = text_of(error)[:ERROR_LENGTH]
            self._batch.failed[message] = Known(message.attempts, pause, name_of(error), why)
            self._notify()

    def skip(self, message: SharedMessage) -> None:
        """Have done with a message that nothing is to be done for."""
        message.state = State.FINISHED
        self._batch.known.append(message)
        self._notify()

    def _notify(self) -> None:
        self.idle.clear()
        self._news.set()

    async def run(self) -> None:
        """Settle until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._batch:
                batch, self._batch = self._batch, Batch()
                await self._ack_at_last(batch)
            self.idle.set()

    async def _ack_at_last(self, batch: Batch) -> None:
        while True:
            try:
                await self._ack(batch)
            except (BrokerError, DatabaseError) as error:
                logger.warning("Acknowledging waits: %s", error)
                self.waits = True
                await asyncio.sleep(RETRY_EVERY)
            else:
                self.waits = False
                return

    async def _ack(self, batch: Batch) -> None:
        if not await self._sent():
            raise BrokerUnavailable("what was sent is not there yet")
        if self._store is not None:
            await self._store.commit(batch.finished, batch.failed)
        done = [*batch.finished, *batch.known]
        for message in done:
            message.state = State.COMMITTED
        failpoints.point("shared.committed")
        await self._share_group.ack(offsets_of(done))
        failpoints.point("shared.acked")
        self._in_flight.remove(done)
