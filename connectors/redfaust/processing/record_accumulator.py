"""From many that send to one who appends: what waits in between, within bounds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from faust.sensors import Monitor
from faust.types import RecordMetadata

from redfaust.brokers.broker import Appended, Outgoing

BATCH = 500
"""Entries that are appended in one go."""

MAX_BUFFERED = 1_000
"""Entries that are accepted and not appended; sending more waits. A process that dies loses them,
where they belong to no event."""

MAX_WHILE_AWAY = 10_000
"""The same while the broker is away, so that not everybody waits for it at once."""

Append: TypeAlias = Callable[[Sequence[Outgoing]], Awaitable[Sequence[Appended | Exception]]]
"""Appends entries, however long that takes; says of each where it lies, or why it is refused."""


class Sent(RecordMetadata):
    """Where an event came to lie, in the form that Faust knows."""

    def _asdict(self) -> dict[str, Any]:
        # `faust send` prints this as JSON, whose numbers are smaller than a stream's offsets.
        return {**super()._asdict(), "offset": str(self.offset)}


_sent = tuple.__new__
"""Makes one without its class's function in Python, which would double the cost."""


class RecordAccumulator:
    """Collects entries while the last batch is on its way, then has them appended in one go."""

    def __init__(self, append: Append, monitor: Monitor) -> None:
        self._append = append
        self._monitor = monitor
        self._waiting: deque[tuple[Outgoing, asyncio.Future[RecordMetadata], float | None]]
        self._waiting = deque()
        self._news = asyncio.Event()
        self._progress = asyncio.Event()
        self.accepted = 0
        """Entries since the beginning."""
        self.done = 0
        """Those of them that are appended, or refused."""
        self._room = MAX_BUFFERED
        """For entries. Below zero where more were sent soon."""
        self._is_away = False
        self._queue: deque[tuple[Outgoing, float | None, asyncio.Future[Any]]] = deque()
        """What waits for room, in order, with who waits with it."""
        self._new_future: Callable[[], asyncio.Future[Any]] = _without_loop

    def begin(self) -> None:
        """To be called in the loop that this is to work in."""
        self._new_future = asyncio.get_running_loop().create_future

    async def send(
        self, entry: Outgoing, since: float | None = None
    ) -> asyncio.Future[RecordMetadata]:
        """Accept an entry as soon as there is room; the future is done when it is appended.

        ``since`` is when it was sent, by the monitor's clock, of which this then tells the monitor.
        """
        if self._room <= 0:
            turn: asyncio.Future[asyncio.Future[RecordMetadata]] = self._new_future()
            self._queue.append((entry, since, turn))
            return await turn
        future = self.send_soon(entry, since)
        if len(self._waiting) == BATCH:
            await asyncio.sleep(0)  # it leaves now, while who sends goes on
        return future

    def send_soon(
        self, entry: Outgoing, since: float | None = None
    ) -> asyncio.Future[RecordMetadata]:
        """The same for who cannot wait. He is not to begin anything new before :meth:`has_room`."""
        future: asyncio.Future[RecordMetadata] = self._new_future()
        if not self._waiting:
            self._news.set()
        self._waiting.append((entry, future, since))
        self.accepted += 1
        self._room -= 1
        return future

    @property
    def is_full(self) -> bool:
        """Whether who sends another entry would wait."""
        return self._room <= 0

    async def has_room(self) -> None:
        """Wait while it is full."""
        while self.is_full:
            self._progress.clear()
            await self._progress.wait()

    def broker_is_away(self) -> None:
        """To be called from ``append`` while it waits for the broker."""
        if not self._is_away:
            self._is_away = True
            self._make_room(MAX_WHILE_AWAY - MAX_BUFFERED)
            self._progress.set()

    def _broker_is_back(self) -> None:
        if self._is_away:
            self._is_away = False
            self._room -= MAX_WHILE_AWAY - MAX_BUFFERED

    def _make_room(self, count: int) -> None:
        self._room += count
        while self._room > 0 and self._queue:
            entry, since, turn = self._queue.popleft()
            if not turn.done():  # who waited may have given up
                turn.set_result(self.send_soon(entry, since))

    async def sent(self) -> None:
        """Wait until what was accepted up to now is appended, or refused."""
        accepted = self.accepted
        while self.done < accepted:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Have batch after batch appended, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while waiting := self._waiting:
                batch = [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]
                outcomes = await self._append([entry for entry, _, _ in batch])
                self._broker_is_back()
                now = self._monitor.time()
                for (_, future, since), outcome in zip(batch, outcomes, strict=True):
                    self._settle(future, outcome)
                    if since is not None:
                        self._tell(now - since, outcome)
                self.done += len(batch)
                self._make_room(len(batch))
                self._progress.set()

    def _settle(
        self, future: asyncio.Future[RecordMetadata], outcome: Appended | Exception
    ) -> None:
        if future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
            future.exception()  # retrieved: it is told already, where nobody awaits it
            return
        tp, offset, timestamp = outcome
        topic, partition = tp
        future.set_result(_sent(Sent, (topic, partition, tp, offset, timestamp, None)))

    def _tell(self, seconds: float, outcome: Appended | Exception) -> None:
        if isinstance(outcome, Exception):
            self._monitor.send_errors += 1
        else:
            self._monitor.send_latency.append(seconds)


def _without_loop() -> asyncio.Future[Any]:
    raise RuntimeError("the producer is not started")
