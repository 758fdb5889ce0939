"""From the broker to the conductor, in order, with bounded buffers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, cast

from faust.types import TP
from mode.services import ServiceT

from redfaust import failpoints
from redfaust.brokers.broker import Record
from redfaust.errors import BrokerError, BrokerUnavailable
from redfaust.printable import printable
from redfaust.processing.log_message import LogMessage
from redfaust.processing.offset_tracker import EVERYBODY, Readers
from redfaust.processing.owned_partition import OwnedPartition
from redfaust.processing.producer import Producer
from redfaust.transports.conductor import Conductor

if TYPE_CHECKING:
    from redfaust.transports.consumer import Consumer

READ_LIMIT = 1000
"""Entries of one partition that are read in one go."""

READ_AT_ONCE = 2000
"""Entries of all partitions that are read in one go, but for :data:`READ_AT_LEAST` of each."""

READ_AT_LEAST = 100

READ_BYTES = 16 << 20
"""Bytes of all partitions that are read in one go, as far as the sizes of entries are known from
those before. One entry is read however large it is."""

FLIGHT_BYTES = 64 << 20
"""Bytes of events in flight with which no more is read of partitions that have some of them."""

READ_AHEAD = 2000
"""Events that wait for an agent with which nothing more is read for it. With half of it counting
waits for a tenth of the time; what is read long before costs more: it has left the processor's
caches, and Python's collector looks through it."""

READ_WAIT = 1.0
"""Seconds that a read waits for news."""

READ_SOON = 0.002
"""The same, where partitions are left out since enough is on its way; the longer they have been,
the longer. Ending a read costs a connection, so that one which waits no longer than :data:`SOON`
is left to end by itself."""

SOON = 0.05

REFUSED_FOR = 5.0
"""Seconds for which a partition that the broker refuses to read is left alone."""

RETRY_EVERY = 0.5
"""Seconds between two attempts while the broker is away."""

SAMPLE = 64
"""Entries of a batch from which the size of all is estimated."""

BESIDE = 64
"""Bytes of an entry beside its value: its ID and its key."""

logger = logging.getLogger(__name__)


class Reading:
    """Reads the partitions of one consumer that may be read."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._again = asyncio.Event()
        self._limit: int = consumer.app.conf.stream_buffer_maxsize
        """Events of a partition that may be in flight."""
        self._at_a_time = min(
            READ_LIMIT, self._limit, consumer.app.conf.broker_max_poll_records or READ_LIMIT
        )
        self._throttled: set[OwnedPartition] = set()
        """Partitions of which enough is on its way."""
        self._throttled_since = 0.0
        """By the monotonic clock."""
        self._returns_soon = False
        """Whether a read is under way that waits but shortly."""
        self._is_heavy = False
        """Whether the events in flight are too large for more."""
        self._left_out = False
        """Whether partitions are not read now, since it would be too much."""
        self._broker_was_away = False
        self.held_back = False
        """Whether nothing is to be read now."""

    def wake(self) -> None:
        """Note that there may be something to read that was not to be read before."""
        self._again.set()

    def relieve(self) -> None:
        """Note that events were begun or finished: more may be read of partitions that had enough
        on their way."""
        if self._throttled and self._is_relieved():
            self._throttled = set()
            if not self._returns_soon:
                self._again.set()

    def _is_relieved(self) -> bool:
        if self._is_heavy and self._in_flight() > FLIGHT_BYTES // 2:
            return any(not owned_partition.bytes_in_flight for owned_partition in self._throttled)
        return any(self._runs_low(owned_partition) for owned_partition in self._throttled)

    def _in_flight(self) -> int:
        return sum(
            owned_partition.bytes_in_flight
            for owned_partition in self._consumer.owned_partitions.values()
        )

    async def run(self, fetcher: ServiceT) -> None:
        """Read and deliver until the consumer or the fetcher is to stop."""
        consumer = self._consumer
        producer = cast(Producer, consumer.app.producer)
        while not (consumer.should_stop or fetcher.should_stop):
            if not consumer.flow_active:
                await consumer.wait(consumer.can_resume_flow.wait())
                continue
            if producer.is_full:
                await consumer.wait(producer.has_room())
                continue
            readable = self._readable()
            if not readable:
                await self._wait_until_readable()
                continue
            if self._broker_was_away:
                await self._begin_anew_if_replaced()
                continue
            readable = self._that_fit(readable)
            limit = self._limit_for(readable)
            positions = {owned_partition.tp: owned_partition.next for owned_partition in readable}
            batches = await self._read(positions, limit)
            consumer.commits.tell_monitor()
            for owned_partition in readable:
                records = batches.get(owned_partition.tp)
                owned_partition.has_backlog = records is not None and len(records) >= limit
                if (
                    records
                    and self._may_read(owned_partition)
                    and owned_partition.next == positions[owned_partition.tp]
                ):
                    failpoints.point("consumer.read")
                    await self._deliver(owned_partition, records)
                    failpoints.point("consumer.delivered")

    async def wake_broker(self) -> None:
        """A read that waits for other partitions knows nothing of one that may be read again."""
        while not self._consumer.should_stop:
            await self._again.wait()
            self._again.clear()
            await self._consumer.broker.wake()

    def _may_read(self, owned_partition: OwnedPartition) -> bool:
        consumer = self._consumer
        return (
            consumer.flow_active
            and owned_partition.may_begin
            and consumer.is_active(owned_partition.tp)
        )

    def _readable(self) -> list[OwnedPartition]:
        """Partitions that may be read: not paused, not too much in flight."""
        self._again.clear()
        now, owned_partitions = time.monotonic(), self._consumer.owned_partitions.values()
        if self.held_back:
            for owned_partition in owned_partitions:
                owned_partition.has_backlog = True  # it grows meanwhile
            return []
        if not self._throttled:
            self._throttled_since = now
        self._throttled = {
            owned_partition
            for owned_partition in owned_partitions
            if self._has_enough(owned_partition)
        }
        self._is_heavy = self._in_flight() >= FLIGHT_BYTES
        if self._is_heavy:
            self._throttled.update(
                owned_partition
                for owned_partition in owned_partitions
                if owned_partition.bytes_in_flight
            )
        for owned_partition in self._throttled:
            owned_partition.has_backlog = True  # it grows meanwhile
        return [
            owned_partition
            for owned_partition in owned_partitions
            if owned_partition not in self._throttled
            and owned_partition.refused <= now
            and self._may_read(owned_partition)
        ]

    def _has_enough(self, owned_partition: OwnedPartition) -> bool:
        return (
            owned_partition.tracker.in_flight >= self._limit
            or self._waiting_for(owned_partition) >= READ_AHEAD
        )

    def _runs_low(self, owned_partition: OwnedPartition) -> bool:
        return (
            owned_partition.tracker.in_flight <= self._limit // 2
            and self._waiting_for(owned_partition) <= READ_AHEAD // 2
        )

    def _waiting_for(self, owned_partition: OwnedPartition) -> int:
        """How many events wait for the slowest agent of a partition, those of others included."""
        return cast(Conductor, self._consumer.app.topics).waiting(owned_partition.tp)

    async def _wait_until_readable(self) -> None:
        try:
            async with asyncio.timeout(READ_WAIT):
                await self._again.wait()
        except TimeoutError:
            return

    def _that_fit(self, readable: list[OwnedPartition]) -> list[OwnedPartition]:
        """Partitions of which one entry each is not too much. The others are read next."""
        behind = [owned_partition for owned_partition in readable if owned_partition.has_backlog]
        self._left_out = False
        if sum(owned_partition.entry_size for owned_partition in behind) <= READ_BYTES:
            return readable
        behind.sort(key=_read_at)
        room, now = float(READ_BYTES), time.monotonic()
        fitting = [
            owned_partition for owned_partition in readable if not owned_partition.has_backlog
        ]
        for owned_partition in behind:
            if room < min(owned_partition.entry_size, READ_BYTES):  # the first one always fits
                self._left_out = True
                break
            room -= owned_partition.entry_size
            owned_partition.read_at = now
            fitting.append(owned_partition)
        return fitting

    def _limit_for(self, owned_partitions: Sequence[OwnedPartition]) -> int:
        """Entries to read of each of these partitions. What comes to one that was read to its end
        is not much: nobody appends as fast as it is read."""
        limit = min(self._at_a_time, max(READ_AT_LEAST, READ_AT_ONCE // len(owned_partitions)))
        size = sum(
            owned_partition.entry_size
            for owned_partition in owned_partitions
            if owned_partition.has_backlog
        )
        return max(1, min(limit, int(READ_BYTES // size))) if size else limit

    async def _read(self, positions: Mapping[TP, int], limit: int) -> Mapping[TP, Sequence[Record]]:
        wait = 0.0 if self._left_out else READ_WAIT
        if self._throttled:
            wait = min(wait, max(READ_SOON, time.monotonic() - self._throttled_since))
        self._returns_soon = wait <= SOON
        try:
            return await self._consumer.broker.read(positions, limit=limit, wait=wait)
        except BrokerUnavailable as error:
            await self._wait_for_broker(error)
        except BrokerError:
            await self._leave_refused_alone(positions)
        finally:
            self._returns_soon = False
        return {}

    async def _begin_anew_if_replaced(self) -> None:
        """If it is another broker that answers now, it may lack entries."""
        try:
            incarnation = await self._consumer.broker.incarnation()
        except BrokerUnavailable as error:
            await self._wait_for_broker(error)
            return
        self._broker_was_away = False
        if incarnation != self._consumer.rebalance.incarnation:
            logger.warning("The broker was restarted or replaced: taking the partitions anew")
            self._consumer.rebalance.undo()

    async def _wait_for_broker(self, error: BrokerUnavailable) -> None:
        self._broker_was_away = True
        logger.warning("Reading waits for the broker: %s", error)
        await self._consumer.sleep(RETRY_EVERY)

    async def _leave_refused_alone(self, positions: Mapping[TP, int]) -> None:
        """Find out which partitions cannot be read, so that they stop none of the others."""
        for tp, position in positions.items():
            try:
                await self._consumer.broker.read({tp: position}, limit=1, wait=0)
            except BrokerUnavailable:
                return
            except BrokerError as error:
                logger.error(
                    "Partition %s of %s cannot be read: %s",
                    tp.partition,
                    printable(tp.topic),
                    error,
                )
                if (owned_partition := self._consumer.owned_partitions.get(tp)) is not None:
                    owned_partition.refused = time.monotonic() + REFUSED_FOR

    async def _deliver(self, owned_partition: OwnedPartition, records: Sequence[Record]) -> None:
        consumer, now = self._consumer, time.monotonic()
        owned_partition.next = owned_partition.log_end = records[-1].offset + 1
        size = _size_of(records)
        owned_partition.note_read(len(records), size)
        done_by: dict[int, Readers] = {}
        if consumer.app.topics.acks_enabled_for(owned_partition.tp.topic):
            owned_partition.deliver(owned_partition.log_end, size)
            done_by = owned_partition.tracker.deliver(records)
            if consumer.poisoned:
                consumer.poisoned.dead_letter(owned_partition, records, done_by)
        consumer.commits.commit_timer.delivered(len(records), size)
        if done_by:
            records = [r for r in records if done_by.get(r.offset) != EVERYBODY]
            consumer.note_progress()  # of those that no agent will finish
        messages = LogMessage.all(records, owned_partition, now)
        consumer.app.monitor.track_tp_end_offset(owned_partition.tp, owned_partition.log_end)
        await cast(Conductor, consumer.app.topics).deliver(owned_partition.tp, messages, done_by)


_read_at = attrgetter("read_at")
_value = attrgetter("value")


def _size_of(records: Sequence[Record]) -> int:
    """Bytes of the entries, by a sample where they are many: all would cost a part of a batch's
    time."""
    sample = records[:: max(1, len(records) // SAMPLE)]
    values = sum(map(len, filter(None, map(_value, sample))))
    return (values + BESIDE * len(sample)) * len(records) // len(sample)
