"""Faust's consumer, for any broker.

Three rooms meet here and know nothing of each other: ownership says which partitions this worker
works on, reading moves batches from the broker to the conductor, and the commit moves positions
behind what is finished.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.consumer import RecordMap
from faust.types import TP, ConsumerMessage, Message
from faust.types.transports import TPorTopicSet
from mode import Seconds, Service
from mode.services import ServiceT

from connectors.errors import BrokerUnavailable, ConnectorError, DatabaseUnavailable
from connectors.processing.commit import commit_batch, committed_positions
from connectors.processing.watermark import Watermark
from connectors.transports.broker import Advance, Broker, Record, TopicSpec
from connectors.transports.conductor import Conductor
from connectors.transports.membership import Membership

READ_LIMIT = 1000
"""Entries of one partition that are read in one go."""

READ_WAIT = 1.0
"""Seconds that a read waits for news."""

DRAIN_FOR = 5.0
"""Seconds that events in progress are given to finish when the worker stops or partitions move.
Those that take longer are delivered again."""

RETRY_EVERY = 0.5
"""Seconds between two attempts while broker or database are away."""


class Consumer(FaustConsumer):
    """Reads the partitions that this worker owns, in order, with bounded buffers."""

    mundane_level = "debug"

    def __post_init__(self) -> None:
        self._owned: frozenset[TP] = frozenset()
        self._log_identity = ""
        self._next: dict[TP, int] = {}
        self._watermarks: dict[TP, Watermark] = {}
        self._ends: dict[TP, int] = {}
        self._topic_partitions: dict[str, int] = {}
        self._read_again = asyncio.Event()
        self._commit_wanted = asyncio.Event()
        self._finished = asyncio.Event()
        self._in_flight_limit = self.app.conf.stream_buffer_maxsize
        # A plain set: entries leave it when their message is acknowledged.
        self._unacked_messages = set()
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
        for topic in topics:
            spec = TopicSpec(topic, self.app.conf.topic_partitions)
            count = await self.broker.create_topic(spec)
            self._topic_partitions[topic] = count
            tps |= {TP(topic, partition) for partition in range(count)}
        from_start = self.app.conf.consumer_auto_offset_reset == "earliest"
        await self.broker.join(self.app.conf.id, topics, from_start=from_start)
        self._membership.want(frozenset(tps))

    @Service.task
    async def _own(self) -> None:
        await self._membership.run()

    async def _take_over(self, owned: frozenset[TP]) -> None:
        """Go through Faust's rebalance, from what was owned to what is owned now."""
        app = self.app
        app.on_rebalance_start()
        await self.on_partitions_revoked(set(self._owned - owned))
        self._owned = owned
        self._watermarks = {tp: w for tp, w in self._watermarks.items() if tp in owned}
        app.assignor.assign_to_this_worker(owned)  # type: ignore[attr-defined]
        app.consumer_generation_id += 1
        await self.on_partitions_assigned(set(owned), app.consumer_generation_id)

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
            try:
                batches = await self.broker.read(positions, limit=READ_LIMIT, wait=READ_WAIT)
            except BrokerUnavailable as error:
                self.log.warning("Reading waits for the broker: %s", error)
                await self.sleep(RETRY_EVERY)
                continue
            for tp, records in batches.items():
                if not self.flow_active or generation != self.app.consumer_generation_id:
                    break
                if self._next.get(tp) == positions[tp] and tp in self._active_partitions:
                    await self._deliver(conductor, tp, records)

    async def _deliver(self, conductor: Conductor, tp: TP, records: Sequence[Record]) -> None:
        self._next[tp] = self._ends[tp] = records[-1].offset + 1
        if self.app.topics.acks_enabled_for(tp.topic):
            self._watermarks[tp].deliver(record.offset for record in records)
        self.app.monitor.track_tp_end_offset(tp, self._ends[tp])
        await conductor.deliver(tp, [self._to_message(tp, record) for record in records])

    def _readable(self) -> dict[TP, int]:
        """Positions of the partitions that may be read: not paused, not too much in flight."""
        self._read_again.clear()
        limit = self._in_flight_limit
        return {
            tp: self._next[tp]
            for tp in self._active_partitions
            if tp in self._next and self._unfinished(tp) < limit
        }

    def _unfinished(self, tp: TP) -> int:
        return self._watermarks[tp].in_flight

    async def _wait_until_readable(self) -> None:
        try:
            async with asyncio.timeout(READ_WAIT):
                await self._read_again.wait()
        except TimeoutError:
            return

    def _to_message(self, tp: TP, record: Record) -> ConsumerMessage:
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=record.offset,
            timestamp=record.timestamp,
            timestamp_type=0,
            headers=list(record.headers),
            key=record.key,
            value=record.value,
            checksum=None,
            time_in=time.monotonic(),
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    # -- positions ---------------------------------------------------------------------------

    async def seek_to_committed(self) -> Mapping[TP, int]:
        self._log_identity = await self.broker.identity()
        positions = await committed_positions(
            self.app, self.broker, self._log_identity, self._sources()
        )
        for tp, position in positions.items():
            await self._seek(tp, position)
        return positions

    async def _seek(self, partition: TP, offset: int) -> None:
        self._next[partition] = offset
        self._watermarks[partition] = Watermark(offset)
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

    def ack(self, message: Message) -> bool:
        """Note a message as finished by all who got it."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        self._finished.set()
        watermark = self._watermarks.get(message.tp)
        if watermark is None:
            return False
        if not self.app.topics.acks_enabled_for(message.topic):
            return False
        throttled = watermark.in_flight >= self._in_flight_limit
        watermark.finish(message.offset)
        self._commit_wanted.set()
        if throttled and watermark.in_flight < self._in_flight_limit:
            self._read_again.set()
        return True

    async def wait_empty(self) -> None:
        """Let events in progress finish, within bounds, and commit."""
        deadline = asyncio.get_running_loop().time() + DRAIN_FOR
        try:
            async with asyncio.timeout_at(deadline):
                while self._unacked_messages:
                    self._finished.clear()
                    await self._finished.wait()
        except TimeoutError:
            self.log.warning(
                "%s events did not finish in time and will be delivered again",
                len(self._unacked_messages),
            )
        await self.commit()

    async def on_stop(self) -> None:
        try:
            await self.wait_empty()
        except ConnectorError as error:
            self.log.warning("The last events will be delivered again: %s", error)

    @Service.task
    async def _commit_handler(self) -> None:
        """Commit when something is finished, at most every ``broker_commit_interval`` seconds."""
        while not self.should_stop:
            await self._commit_wanted.wait()
            await self.sleep(self.commit_interval)
            self._commit_wanted.clear()
            try:
                await self.commit()
            except (BrokerUnavailable, DatabaseUnavailable) as error:
                self.log.warning("The commit waits: %s", error)
                await self.sleep(RETRY_EVERY)
                self._commit_wanted.set()

    async def force_commit(
        self,
        topics: TPorTopicSet | None = None,
        start_new_transaction: bool = True,  # noqa: ARG002 - Kafka's
    ) -> bool:
        """Commit what is finished: what was sent, then tables with positions, then the group."""
        advances = {
            tp: advance
            for tp, watermark in self._watermarks.items()
            if (topics is None or tp in topics or tp.topic in topics)
            and (advance := watermark.pending()) is not None
        }
        if not advances:
            return False
        state = self.app.sensors.on_commit_initiated(self)
        await self.app.producer.flush()
        await commit_batch(self.app, self.broker, self._log_identity, advances)
        self._committed(advances)
        self.app.sensors.on_commit_completed(self, state)
        return True

    def _committed(self, advances: Mapping[TP, Advance]) -> None:
        for tp, advance in advances.items():
            if tp in self._watermarks:
                self._watermarks[tp].committed(advance)
            self._committed_offset[tp] = advance.position
        self.app.monitor.on_tp_commit({tp: a.position for tp, a in advances.items()})

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

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)
