"""Faust's consumer, for any broker.

Three rooms meet here and know nothing of each other: ownership says which partitions this worker
works on, reading moves batches from the broker to the conductor, and the commit moves positions
behind what is finished.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.consumer import RecordMap
from faust.types import TP, ConsumerMessage, Message
from faust.types.transports import TPorTopicSet
from mode import Seconds, Service
from mode.services import ServiceT

from connectors import crash
from connectors.errors import (
    BrokerError,
    BrokerUnavailable,
    ConnectorError,
    DatabaseError,
    DatabaseUnavailable,
)
from connectors.processing.backing import backing_of
from connectors.processing.commit import commit_progress, take_partitions
from connectors.processing.committer import Fenced, RowsRefused
from connectors.processing.condemned import Condemned
from connectors.processing.event_stream import EventStream
from connectors.processing.pace import Pace
from connectors.processing.parking import ParkedMessage
from connectors.processing.retrying import Retrier
from connectors.processing.watermark import EVERYBODY, Committed, Readers, Watermark
from connectors.transports.broker import Broker, LogTooShort, Record, TopicSpec
from connectors.transports.conductor import Conductor
from connectors.transports.delivered import Delivered
from connectors.transports.membership import Membership
from connectors.transports.producer import Producer

READ_LIMIT = 1000
"""Entries of one partition that are read in one go."""

READ_WAIT = 1.0
"""Seconds that a read waits for news."""

DRAIN_FOR = 5.0
"""Seconds that events in progress are given to finish when the worker stops or partitions move.
Those that take longer are delivered again."""

COMMIT_FOR = 2.0
"""Seconds that the commit after that may take."""

STOP_FOR = 3.0
"""Seconds for both when the worker stops, where Faust asks for them twice. With what Faust's worker
needs to end it stays below what a process manager usually waits."""

REFUSED_FOR = 5.0
"""Seconds for which a partition that the broker refuses to read is left alone."""

RETRY_EVERY = 0.5
"""Seconds between two attempts while broker or database are away."""

SAMPLE = 16
"""Entries of a batch from which the size of all is estimated."""


class Consumer(FaustConsumer):
    """Reads the partitions that this worker owns, in order, with bounded buffers."""

    mundane_level = "debug"

    def __post_init__(self) -> None:
        self._owned: frozenset[TP] = frozenset()
        self._next: dict[TP, int] = {}
        self._watermarks: dict[TP, Watermark] = {}
        self._ends: dict[TP, int] = {}
        self._topic_partitions: dict[str, int] = {}
        self._read_again = asyncio.Event()
        self._pace = Pace(self.app.conf.broker_commit_interval)
        self._finished = asyncio.Event()
        self._in_flight_limit = self.app.conf.stream_buffer_maxsize
        self._readers: weakref.WeakSet[EventStream[Any]] = weakref.WeakSet()
        self._commit_fails = False
        self._throttled: set[TP] = set()
        self.progress_noted = False
        """Whether :meth:`note_progress` has been called since the loop was last free."""
        self._refused_until: dict[TP, float] = {}
        self._stop_by: float | None = None
        self._taken: Mapping[TP, Committed] | None = None
        self._incarnation = ""
        self._broker_was_away = False
        self._condemned = Condemned(self.app)
        self._membership = Membership(self.broker, self.app.conf.id, on_change=self._take_over)

    @property
    def broker(self) -> Broker:
        return cast("Broker", self.transport.broker)  # type: ignore[attr-defined]

    @property
    def member(self) -> str:
        """The name under which this worker is known to the others."""
        return self._membership.member

    async def on_start(self) -> None:
        await self.broker.open()

    async def on_shutdown(self) -> None:
        # The last commit is done: only now an heir may start.
        await self._membership.leave()
        await self.broker.close()

    # -- ownership ---------------------------------------------------------------------------

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Ask for the partitions of these topics; ownership comes later, by a rebalance."""
        tps = set()
        declared = {
            name: channel.partitions
            for channel in cast(Conductor, self.app.topics)
            for name in channel.topics
        }
        for topic in topics:
            partitions = declared.get(topic) or self.app.conf.topic_partitions
            spec = TopicSpec(topic, partitions)
            count = await self.broker.create_topic(spec)
            self._topic_partitions[topic] = count
            tps |= {TP(topic, partition) for partition in range(count)}
        await self._join(topics)
        self._membership.want(frozenset(tps))

    @Service.task
    async def _own(self) -> None:
        await self._membership.run()

    async def _take_over(self, owned: frozenset[TP]) -> None:
        """Go through Faust's rebalance, from what was owned to what is owned now."""
        app = self.app
        app.on_rebalance_start()
        await self.on_partitions_revoked(set(self._owned - owned))
        crash.point("rebalance.revoked")
        self._owned = owned
        # Nothing is read until the committed positions are known, also of what stays: Faust
        # resumes the flow before.
        self._next, self._watermarks, self._throttled = {}, {}, set()
        if (backing := backing_of(app)) is not None:
            backing.start_over()
        # Before the tables are loaded: nobody else can change them any more.
        self._taken = await self._take_partitions()
        crash.point("rebalance.taken")
        app.assignor.assign_to_this_worker(owned)  # type: ignore[attr-defined]
        app.consumer_generation_id += 1
        await self.on_partitions_assigned(set(owned), app.consumer_generation_id)
        crash.point("rebalance.assigned")
        self._pace.want()  # where the group has not followed yet

    async def _take_partitions(self) -> Mapping[TP, Committed]:
        sources = self._sources()
        # Who waited until the lease had ended must not fence out whoever has it now.
        while sources and self._membership.owns and not self.should_stop:
            try:
                self._incarnation = await self.broker.incarnation()
                # Somebody may have emptied the broker since this worker subscribed.
                await self._join({tp.topic for tp in sources})
                return await take_partitions(self.app, self.broker, self._incarnation, sources)
            except (BrokerUnavailable, DatabaseUnavailable) as error:
                self.log.warning("The partitions cannot be taken now: %s", error)
                await self.sleep(RETRY_EVERY)
        return {}

    def _start_over(self) -> None:
        """Undo in memory what was not committed, and go on from what was."""
        # From now on nothing that is in progress counts any more.
        self.app.consumer_generation_id += 1
        self._next, self._watermarks, self._throttled = {}, {}, set()
        if (backing := backing_of(self.app)) is not None:
            backing.start_over()
        self._membership.start_over()

    def assignment(self) -> set[TP]:
        return set(self._owned)

    # -- reading -----------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        conductor = cast(Conductor, self.app.topics)
        while not (self.should_stop or fetcher.should_stop):
            if not self.flow_active:
                await self.wait(self.can_resume_flow.wait())
                continue
            generation = self.app.consumer_generation_id
            positions = self._readable()
            if not positions:
                await self._wait_until_readable()
                continue
            if self._broker_was_away:
                await self._begin_anew_if_replaced()
                continue
            batches = await self._read(positions)
            for tp, records in batches.items():
                if not self.flow_active or generation != self.app.consumer_generation_id:
                    break
                if self._next.get(tp) == positions[tp] and tp in self._active_partitions:
                    crash.point("consumer.read")
                    await self._deliver(conductor, tp, records)
                    crash.point("consumer.delivered")

    async def _read(self, positions: Mapping[TP, int]) -> Mapping[TP, Sequence[Record]]:
        limit = min(READ_LIMIT, self._in_flight_limit)
        try:
            return await self.broker.read(positions, limit=limit, wait=READ_WAIT)
        except BrokerUnavailable as error:
            self._broker_was_away = True
            self.log.warning("Reading waits for the broker: %s", error)
            await self.sleep(RETRY_EVERY)
        except BrokerError:
            await self._leave_refused_alone(positions)
        return {}

    async def _begin_anew_if_replaced(self) -> None:
        """If it is another broker that answers now, it may lack entries."""
        try:
            incarnation = await self.broker.incarnation()
        except BrokerUnavailable as error:
            self.log.warning("Reading waits for the broker: %s", error)
            await self.sleep(RETRY_EVERY)
            return
        self._broker_was_away = False
        if incarnation != self._incarnation:
            self.log.warning("The broker was restarted or replaced: taking the partitions anew")
            self._start_over()

    async def _leave_refused_alone(self, positions: Mapping[TP, int]) -> None:
        """Find out which partitions cannot be read, so that they stop none of the others."""
        for tp, position in positions.items():
            try:
                await self.broker.read({tp: position}, limit=1, wait=0)
            except BrokerUnavailable:
                return
            except BrokerError as error:
                self.log.error(
                    "Partition %s of %s cannot be read: %s", tp.partition, tp.topic, error
                )
                self._refused_until[tp] = time.monotonic() + REFUSED_FOR

    async def _deliver(self, conductor: Conductor, tp: TP, records: Sequence[Record]) -> None:
        self._next[tp] = self._ends[tp] = records[-1].offset + 1
        watermark: Watermark | None = None
        done_by: dict[int, Readers] = {}
        if self.app.topics.acks_enabled_for(tp.topic):
            watermark = self._watermarks[tp]
            done_by = watermark.deliver(records)
            if self._condemned:
                self._condemned.set_aside(tp, records, watermark, done_by)
        self._pace.delivered(len(records), _size_of(records))
        generation, now = self.app.consumer_generation_id, time.monotonic()
        messages = [
            Delivered(tp, record, watermark, generation, now)
            for record in records
            if not done_by or done_by.get(record.offset) != EVERYBODY
        ]
        await conductor.deliver(tp, messages, done_by)

    def _readable(self) -> dict[TP, int]:
        """Positions of the partitions that may be read: not paused, not too much in flight."""
        self._read_again.clear()
        if self._commit_fails:
            # What is finished and not committed would grow without end.
            return {}
        now, limit = time.monotonic(), self._in_flight_limit
        self._refused_until = {tp: t for tp, t in self._refused_until.items() if t > now}
        self._throttled = {tp for tp, w in self._watermarks.items() if w.in_flight >= limit}
        out_of_bounds = self._throttled | self._refused_until.keys()
        return {
            tp: self._next[tp]
            for tp in self._active_partitions
            if tp in self._next and tp not in out_of_bounds
        }

    @Service.task
    async def _wake_reader(self) -> None:
        """A read that waits for other partitions knows nothing of one that may be read again."""
        while not self.should_stop:
            await self._read_again.wait()
            self._read_again.clear()
            await self.broker.wake()

    async def _wait_until_readable(self) -> None:
        try:
            async with asyncio.timeout(READ_WAIT):
                await self._read_again.wait()
        except TimeoutError:
            return

    @Service.task
    async def _publish(self) -> None:
        await self.app.tables.wait_until_tables_registered()
        if (backing := backing_of(self.app)) is not None:
            await backing.publisher.run()

    @Service.task
    async def _retry(self) -> None:
        await self.app.tables.wait_until_tables_registered()
        if (backing := backing_of(self.app)) is not None:
            await Retrier(self.app, backing, self._is_ready, self._deliver_again).run()

    def _is_ready(self, tp: TP) -> bool:
        return tp in self._watermarks and self.app.flow_control.is_active()

    async def _deliver_again(self, message: ParkedMessage, reader: str) -> bool:
        if self._condemned.set_parked_aside(message, reader):
            return True
        return await cast(Conductor, self.app.topics).deliver_again(message, reader)

    # -- positions ---------------------------------------------------------------------------

    async def seek_to_committed(self) -> Mapping[TP, int]:
        taken, self._taken = self._taken, None
        if taken is not None:  # otherwise this assignment has begun: going back would repeat it
            for tp, committed in taken.items():
                await self._seek(tp, committed.position)
                self._watermarks[tp] = Watermark(committed)
        return dict(self._next)

    async def _join(self, topics: Iterable[str]) -> None:
        from_start = self.app.conf.consumer_auto_offset_reset == "earliest"
        await self.broker.join(self.app.conf.id, topics, from_start=from_start)

    async def _seek(self, partition: TP, offset: int) -> None:
        self._next[partition] = offset
        self._watermarks[partition] = Watermark(Committed(offset))
        self._read_again.set()

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        for tp, offset in partitions.items():
            await self._seek(tp, offset)

    async def position(self, tp: TP) -> int | None:
        return self._next.get(tp)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        bounds = await self.broker.bounds(partitions)
        return {tp: first for tp, (first, _) in bounds.items()}

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        bounds = await self.broker.bounds(partitions)
        return {tp: end for tp, (_, end) in bounds.items()}

    def highwater(self, tp: TP) -> int:
        return self._ends.get(tp, 0)

    def topic_partitions(self, topic: str) -> int | None:
        return self._topic_partitions.get(topic)

    def key_partition(
        self, topic: str, key: bytes | None, partition: int | None = None
    ) -> int | None:
        if partition is not None or key is None:
            return partition
        return int(self.app.producer.key_partition(topic, key).partition)

    def _sources(self) -> list[TP]:
        return [tp for tp in self._owned if not self._is_changelog_tp(tp)]

    # -- commit ------------------------------------------------------------------------------

    def ack(self, message: Any) -> bool:
        """Note a message as finished by all who got it."""
        if message.acked:
            return False
        message.acked = True
        if message.watermark is None or message.generation_id != self.app.consumer_generation_id:
            # Of a topic without positions; or read before partitions moved, and delivered again.
            return False
        message.watermark.finish(message.offset)
        if not self.progress_noted:
            self.note_progress()
        return True

    def read_by(self, stream: EventStream[Any]) -> None:
        """Note a stream, whose events in progress are waited for before partitions move."""
        self._readers.add(stream)

    def note_progress(self) -> None:
        """Note that a stream has one event less in progress.

        What follows from it is done as soon as the loop is free: once for many events.
        """
        if not self.progress_noted:
            self.progress_noted = True
            asyncio.get_running_loop().call_soon(self._tell_progress)

    def _tell_progress(self) -> None:
        self.progress_noted = False
        crash.point("consumer.finished")
        self._finished.set()
        self._pace.want()
        half = self._in_flight_limit // 2
        relieved = {tp for tp in self._throttled if self._watermarks[tp].in_flight <= half}
        if relieved:
            self._throttled -= relieved
            self._read_again.set()

    @property
    def unacked(self) -> set[Message]:
        """What agents have in hand, and have not finished."""
        return {
            event.message
            for stream in self._readers
            for event in stream.in_hand
            if not event.message.acked
        }

    async def wait_empty(self) -> None:
        """Let events in progress finish, and commit, within bounds.

        What could not be committed is delivered again.
        """
        for stream in self._readers:
            stream.hurry()
        try:
            async with asyncio.timeout(self._no_longer_than(DRAIN_FOR)):
                while self.unacked:
                    self._finished.clear()
                    await self._finished.wait()
        except TimeoutError:
            self.log.warning(
                "%s events did not finish in time and will be delivered again", len(self.unacked)
            )
        try:
            async with asyncio.timeout(self._no_longer_than(COMMIT_FOR)):
                # One that is on its way began before the last events were finished.
                await self.maybe_wait_for_commit_to_finish()
                await self.commit()
                if (backing := backing_of(self.app)) is not None:
                    await backing.publisher.drained()
        except (ConnectorError, TimeoutError) as error:
            self.log.warning("The last events will be delivered again: %s", error or "no answer")

    def _no_longer_than(self, seconds: float) -> float:
        if not self.app.should_stop:
            return seconds
        now = asyncio.get_running_loop().time()
        if self._stop_by is None:
            self._stop_by = now + STOP_FOR
        return min(seconds, max(0.0, self._stop_by - now))

    async def on_stop(self) -> None:
        await self.wait_empty()

    def finished_by(self, message: Message, reader: str) -> None:
        """Note a message as finished by one of several agents; the last one acknowledges it."""
        if message.generation_id != self.app.consumer_generation_id:
            return
        watermark = self._watermarks.get(message.tp)
        if watermark is not None and reader and not message.acked:
            watermark.finish_by(message.offset, reader)
            self.note_progress()

    @Service.task
    async def _commit_handler(self) -> None:
        """Commit what is finished, at the latest after ``broker_commit_interval`` seconds."""
        while not self.should_stop:
            await self._pace.due()
            started = time.monotonic()
            try:
                await self.commit()
            except (BrokerError, DatabaseError) as error:
                self.log.warning("The commit waits: %s", error)
                self._commit_fails = True
                await self.sleep(RETRY_EVERY)
                self._pace.want()
            else:
                self._commit_fails = False
                self._read_again.set()
                if (backing := backing_of(self.app)) is not None and backing.unit.behind:
                    await self.sleep(RETRY_EVERY)
                    self._pace.want()
            self._pace.took(time.monotonic() - started)

    async def on_task_error(self, exc: BaseException) -> None:
        """Faust commits, and has the agent that failed wait for it. The next commit will do."""

    async def maybe_wait_for_commit_to_finish(self) -> bool:
        """Wait for a commit that is on its way; whether there was one.

        Faust's takes the cancellation of who waits for that of the commit, and begins another.
        """
        if self._commit_fut is None:
            return False
        await asyncio.wait({self._commit_fut})
        return True

    async def force_commit(
        self,
        topics: TPorTopicSet | None = None,  # noqa: ARG002
        start_new_transaction: bool = True,  # noqa: ARG002 - Kafka's
    ) -> bool:
        """Commit all that is finished: what was sent, then tables with positions, then the group.

        Never only some topics: the tables' state is that of all finished events.
        """
        backing = backing_of(self.app)
        touched = set() if backing is None else backing.unit.touched
        progress = {
            tp: watermark.progress()
            for tp, watermark in self._watermarks.items()
            if watermark.has_news or tp in touched
        }
        if not progress:
            return False
        generation = self.app.consumer_generation_id
        state = self.app.sensors.on_commit_initiated(self)
        try:
            await commit_progress(
                self.app,
                self.broker,
                progress,
                sent=cast(Producer, self.app.producer).has_sent,
                owned=lambda: self._membership.owns,
            )
        except LogTooShort as loss:
            self.log.warning("%s", loss)
            self._start_over()
            return True
        except (BrokerError, DatabaseError):
            raise  # nothing has happened: the same again
        except Exception as error:
            if generation == self.app.consumer_generation_id:
                self._undo(error)
            return False
        except asyncio.CancelledError:  # perhaps while the database had it: nobody knows
            if generation == self.app.consumer_generation_id:
                self._start_over()
            raise
        if generation != self.app.consumer_generation_id:
            return True
        for tp, committed in progress.items():
            self._watermarks[tp].committed(committed)
            self._committed_offset[tp] = committed.advance.position
        self._condemned.forget(progress)
        self.app.sensors.on_commit_completed(self, state)
        return True

    def _undo(self, error: Exception) -> None:
        """What cannot be committed has never happened."""
        self._start_over()
        match error:
            case Fenced():
                self.log.warning("%s", error)
                self._membership.give_up()
            case RowsRefused():
                self.log.warning("%s", error)
                self._condemned.add(error)
            case _:
                raise error

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        raise NotImplementedError("force_commit commits")

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> RecordMap:
        raise NotImplementedError("_drain_messages reads")

    async def create_topic(
        self,
        topic: str,
        partitions: int,
        replication: int,
        *,
        config: Mapping[str, Any] | None = None,
        timeout: Seconds = 30.0,
        retention: Seconds | None = None,
        compacting: bool | None = None,
        deleting: bool | None = None,
        ensure_created: bool = False,
    ) -> None:
        await self.app.producer.create_topic(
            topic,
            partitions,
            replication,
            config=config,
            timeout=timeout,
            retention=retention,
            compacting=compacting,
            deleting=deleting,
            ensure_created=ensure_created,
        )

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        raise NotImplementedError("_deliver makes messages")

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)


def _size_of(records: Sequence[Record]) -> int:
    """Bytes of the values, by a sample: all of them would cost a part of a batch's time."""
    sample = records[:: max(1, len(records) // SAMPLE)]
    return sum(len(record.value or b"") for record in sample) * len(records) // len(sample)
