"""When what is finished is committed, and what follows if it cannot be."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

from faust.types import TP, EventT

from redfaust.brokers.broker import OffsetOutOfRange, Replaced
from redfaust.errors import BrokerError, DatabaseError, DatabaseRewound, Fenced, RedfaustError
from redfaust.processing.commit import commit_progress
from redfaust.processing.commit_timer import CommitTimer
from redfaust.processing.event_stream import EventStream
from redfaust.processing.monitoring import only_monitor
from redfaust.processing.producer import Producer
from redfaust.processing.refusals import EventsRefused
from redfaust.processing.scope import Table
from redfaust.processing.state_backend import state_backend_of
from redfaust.processing.waiting import Waiting

if TYPE_CHECKING:
    from redfaust.transports.consumer import Consumer

DRAIN_FOR = 5.0
"""Seconds that events in progress are given to finish when the worker stops or partitions move.
Those that take longer are delivered again."""

COMMIT_FOR = 2.0
"""Seconds that the commit after that may take."""

STOP_FOR = 3.0
"""Seconds for both when the worker stops, where Faust asks for them twice. With what Faust's worker
needs to end it stays below what a process manager usually waits."""

RETRY_EVERY = 0.5
"""Seconds between two attempts while broker or database are away."""

VERIFY_EVERY = 2.0
"""Seconds between two looks at whether the database was set back."""

logger = logging.getLogger(__name__)


class Commits:
    """Of one consumer."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        conf = consumer.app.conf
        self.commit_timer = CommitTimer(conf.broker_commit_interval, conf.broker_commit_every)
        self._waits: bool = conf.stream_wait_empty
        self.finished = asyncio.Event()
        """Set whenever an event is finished."""
        self._streams: weakref.WeakSet[EventStream[Any]] = weakref.WeakSet()
        self._stop_by: float | None = None
        self._active = 0
        """Messages that the monitor was told to be active."""

    @property
    def _waiting(self) -> Waiting:
        return self._consumer.waiting

    def read_by(self, stream: EventStream[Any]) -> None:
        """Note a stream, whose events in progress are waited for before partitions move."""
        self._streams.add(stream)

    def note_progress(self) -> None:
        """Note that events were finished."""
        self.finished.set()
        self.commit_timer.want(at_once=not any(stream.is_behind for stream in self._streams))

    def in_progress(self, tps: Collection[TP]) -> list[EventT[Any]]:
        """What agents have in hand of these partitions, and have not finished."""
        return [
            event
            for stream in self._streams
            for event, scope in stream.in_hand.items()
            if not event.message.acked
            and (event.message.tp in tps or not scope.strays.isdisjoint(tps))
        ]

    def uses(self, table: Table, key: Any) -> bool:
        """Whether an event in progress has written the row of a window, or has its key."""
        return any(
            scope.row(table, key) is not None or event.key == key[0]
            for stream in self._streams
            for event, scope in stream.in_hand.items()
        )

    def bound_together(self) -> list[frozenset[TP]]:
        """Partitions of what agents have in hand that will count together, or not at all."""
        return [
            scope.strays.union(event.message.tp for event in scope.events)
            for stream in self._streams
            for scope in stream.in_hand.values()
        ]

    async def run(self) -> None:
        """Commit what is finished, at the latest after ``broker_commit_interval`` seconds."""
        consumer, reading = self._consumer, self._consumer.reading
        while not consumer.should_stop:
            await self.commit_timer.due()
            started = time.monotonic()
            try:
                await consumer.commit()
            except (BrokerError, DatabaseError) as error:
                self._waiting.because("The commit waits", error)
                # What is finished and not committed would grow without end.
                reading.held_back = True
                await consumer.sleep(RETRY_EVERY)
                self.commit_timer.want()
            else:
                self._waiting.over()
                if reading.held_back:
                    reading.held_back = False
                    reading.wake()
                if (
                    state_backend := state_backend_of(consumer.app)
                ) is not None and state_backend.unit.behind:
                    await consumer.sleep(RETRY_EVERY)
                    self.commit_timer.want()
            self.commit_timer.took(time.monotonic() - started)

    async def verify(self) -> None:
        """Find out that the database was set back also where nothing is to be committed."""
        consumer = self._consumer
        while (
            state_backend := state_backend_of(consumer.app)
        ) is not None and not consumer.should_stop:
            await consumer.sleep(VERIFY_EVERY)
            try:
                await state_backend.committer.verify()
            except DatabaseError as error:
                logger.debug("Whether the database was set back cannot be told: %s", error)
            except DatabaseRewound as error:
                self._undo(error)

    async def drain(self, tps: Collection[TP]) -> None:
        """Let events of these partitions in progress finish, and commit, within bounds.

        What could not be committed is delivered again.
        """
        for stream in self._streams:
            stream.hurry()
        try:
            async with asyncio.timeout(self._no_longer_than(DRAIN_FOR if self._waits else 0.0)):
                while self.in_progress(tps):
                    self.finished.clear()
                    await self.finished.wait()
        except TimeoutError:
            logger.warning(
                "%s events did not finish in time and will be delivered again",
                len(self.in_progress(tps)),
            )
        consumer = self._consumer
        try:
            async with asyncio.timeout(self._no_longer_than(COMMIT_FOR)):
                # One that is on its way began before the last events were finished.
                await consumer.maybe_wait_for_commit_to_finish()
                await consumer.commit()
                if (state_backend := state_backend_of(consumer.app)) is not None:
                    await state_backend.publisher.drained()
        except (RedfaustError, TimeoutError) as error:
            logger.warning("The last events will be delivered again: %s", str(error) or "no answer")

    def _no_longer_than(self, seconds: float) -> float:
        if not self._consumer.app.should_stop:
            return seconds
        now = asyncio.get_running_loop().time()
        if self._stop_by is None:
            self._stop_by = now + STOP_FOR
        return min(seconds, max(0.0, self._stop_by - now))

    def is_durable(self, tps: Collection[TP]) -> bool:
        """Whether nothing that counts of these partitions is left to be committed."""
        touched = self._touched()
        owned_partitions = self._consumer.owned_partitions
        return not any(
            tp in touched or (tp in owned_partitions and owned_partitions[tp].tracker.has_news)
            for tp in tps
        )

    async def make(self) -> bool:
        """Commit all that is finished: what was sent, then tables with positions, then the group.

        Never only some topics: the tables' state is that of all finished events.
        """
        consumer, touched = self._consumer, self._touched()
        owned_partitions = {
            tp: owned_partition
            for tp, owned_partition in consumer.owned_partitions.items()
            if owned_partition.tracker.has_news or tp in touched
        }
        if not owned_partitions:
            return False
        progress = {
            tp: owned_partition.tracker.progress()
            for tp, owned_partition in owned_partitions.items()
        }
        generation = consumer.app.consumer_generation_id
        state = consumer.app.sensors.on_commit_initiated(consumer)
        try:
            await commit_progress(
                consumer.app,
                consumer.broker,
                progress,
                incarnation=consumer.rebalance.incarnation,
                sent=cast(Producer, consumer.app.producer).has_sent,
                owned=consumer.owns,
            )
        except (OffsetOutOfRange, Replaced) as loss:
            logger.info("%s", loss)  # what follows is told when partitions are taken
            consumer.rebalance.undo()
            return True
        except (BrokerError, DatabaseError):
            raise  # nothing has happened: the same again
        except Exception as error:
            if generation == consumer.app.consumer_generation_id:
                self._undo(error)
            return False
        except asyncio.CancelledError:  # perhaps while the database had it: nobody knows
            if generation == consumer.app.consumer_generation_id:
                consumer.rebalance.undo()
            raise
        for tp, owned_partition in owned_partitions.items():
            owned_partition.tracker.committed(progress[tp])
            if owned_partition.counts:
                consumer.note_committed(tp, progress[tp].advance.position)
        consumer.poisoned.forget(progress)
        consumer.app.sensors.on_commit_completed(consumer, state)
        consumer.app.monitor.on_tp_commit({tp: p.advance.position for tp, p in progress.items()})
        self.tell_monitor()
        return True

    def tell_monitor(self) -> None:
        """Tell the built-in monitor what has become of the messages that this worker has."""
        for stream in self._streams:
            stream.tell_monitor()
        if (monitor := only_monitor(self._consumer.app)) is not None:
            owned_partitions = self._consumer.owned_partitions.values()
            active = sum(owned_partition.tracker.unfinished for owned_partition in owned_partitions)
            monitor.messages_active += active - self._active
            self._active = active

    def _touched(self) -> set[TP]:
        state_backend = state_backend_of(self._consumer.app)
        return set() if state_backend is None else state_backend.unit.touched

    def _undo(self, error: Exception) -> None:
        """What cannot be committed has never happened."""
        self._consumer.rebalance.undo()
        match error:
            case Fenced():
                logger.warning("%s", error)
                self._consumer.give_up()
            case DatabaseRewound():
                logger.error("%s", error)
            case EventsRefused():
                logger.warning("%s", error)
                self._consumer.poisoned.add(error)
            case _:
                raise error
