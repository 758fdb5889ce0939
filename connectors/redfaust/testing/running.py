"""Runs an application's own object on memory, with the time in the test's hands."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, cast

import faust
from faust.exceptions import ImproperlyConfigured
from faust.types import TP, AgentT, ChannelT, EventT, Message
from mode import Service
from yarl import URL

from redfaust.brokers.broker import Appended, Outgoing
from redfaust.processing.dead_letters import DeadLetter
from redfaust.processing.state_backend import StateBackend
from redfaust.processing.topic import Topic
from redfaust.tables.declarations import CACHED_ROWS
from redfaust.tables.manager import TableManager
from redfaust.testing.clock import Clock
from redfaust.testing.pristine import Pristine
from redfaust.testing.state import MemoryState
from redfaust.testing.state_backend import MemoryStateBackend
from redfaust.testing.transport import Transport
from redfaust.transports.consumer import Consumer

COMMITS = 10_000
"""Commits after which events that cause each other count as going on for ever."""


JUST_DUE = 1e-4
"""Seconds that time passes beyond what a test asks for, so that what is due at that moment, by one
clock or another, is due."""


class SentEvent(NamedTuple):
    """An event as it lies on its topic, decoded."""

    key: Any
    value: Any
    headers: Mapping[str, bytes]
    timestamp: float
    """Seconds since the epoch."""
    partition: int


class AppInMemory:
    """A running application, as a test sees it."""

    def __init__(self, app: faust.App, clock: Clock, transport: Transport) -> None:
        self.app = app
        self._clock = clock
        self._broker = transport.lone_broker
        self._state = MemoryState(self._broker)

    # -- what a test does --------------------------------------------------------------------

    async def send(
        self,
        to: ChannelT[Any] | AgentT[Any] | str,
        *,
        key: Any = None,
        value: Any = None,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        """Send an event to a topic, an agent, or a topic of that name; it is there on return."""
        topic = self._topic(to)
        sent = await topic.send(
            key=key, value=value, partition=partition, timestamp=timestamp, headers=headers
        )
        await sent

    async def settled(self) -> None:
        """Return when everything that was sent is processed and committed, and all that follows.

        Time stands still meanwhile. What waits for it (another attempt, ``take`` with ``within``,
        a pause of an agent) or for the outside goes on waiting. Raises what the application crashed
        with, and RuntimeError if it comes to no end.
        """
        consumer = cast(Consumer, self.app.consumer)
        for _ in range(COMMITS):
            await self._clock.quiet()
            if self.app.crashed:
                raise cast(BaseException, self.app.crash_reason)
            if not await consumer.commit():
                return
        raise RuntimeError(f"there were {COMMITS} commits, and still something follows")

    async def advance(self, **time: float) -> None:
        """Let time pass, as ``timedelta(**time)`` says: ``advance(minutes=10)``.

        All that is due until then happens, in its order and at its time: timers, crontab, other
        attempts, scheduled events, what agents sleep for.
        """
        await self.settled()
        await asyncio.sleep(timedelta(**time).total_seconds() + JUST_DUE)
        await self.settled()

    async def replay(self, letter: DeadLetter, *, value: bytes | None = None) -> None:
        """Put a dead letter back onto its topic, for the agent that gave it up."""
        await self._state.replay(letter, value)

    # -- what a test sees --------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The time, which everything in this process goes by."""
        return datetime.now(UTC)

    def sent(self, topic: ChannelT[Any] | AgentT[Any] | str) -> Sequence[SentEvent]:
        """All events of a topic, whoever sent them, in their order.

        Raises what decoding raises.
        """
        decoding = self._topic(topic)
        name = decoding.get_topic_name()
        lying = [_message(*taken) for taken in self._broker.taken if taken[0].topic == name]
        events, refused = decoding.decode_batch(lying)
        for _, error in refused:
            raise error
        return [_sent(event) for event in events]

    @property
    def dead_letters(self) -> Sequence[DeadLetter]:
        """Events that were given up, the oldest first; replayed ones among them."""
        return list(self._state.letters.values())

    @property
    def waiting_for_retry(self) -> int:
        """Events that wait for another attempt, or behind one of their key that does."""
        return self._state.parked

    @property
    def scheduled(self) -> Sequence[tuple[datetime, Outgoing]]:
        """What is to be sent later, with its time, the next first."""
        return self._state.scheduled

    # -- inside ------------------------------------------------------------------------------

    def _topic(self, named: ChannelT[Any] | AgentT[Any] | str) -> Topic:
        if isinstance(named, str):
            return cast(Topic, self.app.topic(named))
        return cast(Topic, named.channel if isinstance(named, AgentT) else named)

    async def open_state_backend(self, manager: TableManager) -> StateBackend:
        """What the table manager opens in the place of Postgres."""
        return MemoryStateBackend(self._state, manager.stores)


def _sent(event: EventT[Any]) -> SentEvent:
    message = event.message
    headers = cast("Mapping[str, bytes]", event.headers)
    return SentEvent(event.key, event.value, headers, message.timestamp, message.partition)


def _message(entry: Outgoing, appended: Appended) -> Message:
    (topic, partition), offset, appended_at = appended
    timestamp = appended_at if entry.timestamp is None else entry.timestamp
    headers = list(entry.headers)
    tp = TP(topic, partition)
    return Message(
        topic, partition, offset, timestamp, 0, headers, entry.key, entry.value, None, tp=tp
    )


@asynccontextmanager
async def in_memory(app: faust.App) -> AsyncIterator[AppInMemory]:
    """Run an application on memory, in this process and this event loop.

    Its URLs stay what they are, and nothing is connected to. With ``store="postgresql://…"`` it
    behaves as with that: scopes, one commit, retries, dead letters. On leaving it is stopped, and
    is as it was before, so that the next test finds nothing of this one.

    Time stands still but for ``advance`` and for sleeping. Raises ImproperlyConfigured for an
    application with another broker than ours, and RuntimeError if it was started before.
    """
    if app.started:
        raise RuntimeError("the application runs already: in_memory starts it")
    with (
        Clock(asyncio.get_running_loop()).installed() as clock,
        tempfile.TemporaryDirectory(prefix="in-memory-") as directory,
        _as_it_was(app),
    ):
        run = _prepare(app, clock, Path(directory))
        try:
            await app.start()
            await _has_partitions(app)
            await run.settled()
            yield run
        finally:
            await app.stop()


@contextmanager
def _as_it_was(app: faust.App) -> Any:
    pristine = Pristine(app)
    try:
        yield
    finally:
        pristine.restore()


def _prepare(app: faust.App, clock: Clock, directory: Path) -> AppInMemory:
    app.finalize()
    conf: Any = app.conf
    conf.web_enabled = False
    conf.datadir = directory
    if not isinstance(app.tables, TableManager):
        raise ImproperlyConfigured(f"broker={conf.broker[0]} is none that can be had in memory")
    transport = Transport([URL("memory://")], app, loop=asyncio.get_running_loop())
    app.transport = app.producer_transport = transport
    # Timers measure how long they slept, and make up for it.
    app.itertimer = _Timers(app, clock)  # type: ignore[method-assign]
    app.monitor.itertimer = _never  # type: ignore[method-assign]
    for table in app.tables.values():
        # All rows are in memory as it is.
        options: Mapping[str, Any] = table.options or {}
        table.options = {name: options[name] for name in options if name != CACHED_ROWS}
    run = AppInMemory(app, clock, transport)
    app.tables.opener = run.open_state_backend
    return run


class _Timers:
    """Those of one service, by a clock."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service, self._clock = service, clock

    def __call__(self, interval: Any, **options: Any) -> AsyncIterator[float]:
        by_the_clock = {"clock": self._clock.time, **options}
        return type(self._service).itertimer(self._service, interval, **by_the_clock)


async def _never(*_: Any, **__: Any) -> AsyncIterator[float]:
    """In the place of the timer by which the monitor finds rates, second by second."""
    return
    yield


async def _has_partitions(app: faust.App) -> None:
    consumer = cast(Consumer, app.consumer)
    while not (consumer.assignment() or app.should_stop):  # noqa: ASYNC110 - time jumps
        await asyncio.sleep(0.01)
