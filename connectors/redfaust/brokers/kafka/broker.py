"""The broker's contract, kept by a Kafka cluster and the Postgres beside it.

Entries lie in Kafka; what it has no place for, or would let anybody move back, lies in Postgres,
where the positions that rule are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, ClassVar, NamedTuple

from faust.types import TP

from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import (
    Advance,
    Anomaly,
    Appended,
    GroupProgress,
    GroupState,
    Heartbeat,
    HeldBack,
    OffsetOutOfRange,
    Outgoing,
    PartitionStatus,
    PartitionSurvey,
    PartlyRefused,
    Place,
    ProducerBatch,
    Record,
    Replaced,
    Retention,
    ServerTrouble,
    TopicSpec,
    Trimmed,
)
from redfaust.brokers.capabilities import ALL, Capability
from redfaust.brokers.kafka.address import Address
from redfaust.brokers.kafka.appender import Appender, EntryRefused, LogClosed
from redfaust.brokers.kafka.clients import Admin, new_consumer, started
from redfaust.brokers.kafka.errors import our_errors
from redfaust.brokers.kafka.group_states import GroupStates
from redfaust.brokers.kafka.groups import Groups
from redfaust.brokers.kafka.log_inspector import LogInspector
from redfaust.brokers.kafka.producer_states import ProducerStates
from redfaust.brokers.kafka.reader import LogReader
from redfaust.brokers.kafka.store import Store
from redfaust.brokers.kafka.topics import TopicCatalog, name_fault, refusal_of
from redfaust.brokers.outgoing import beyond
from redfaust.brokers.partition_batch import divide
from redfaust.brokers.partitioner import partition_of
from redfaust.brokers.share_group import ShareGroup
from redfaust.errors import BrokerError, BrokerUnavailable, BrokerUnsupported

LOOKED_AT = 8
"""Entries that a survey fetches to see how old they are, one after the other."""


class _Parts(NamedTuple):
    """What a broker that is open works with."""

    store: Store
    topics: TopicCatalog
    log_inspector: LogInspector
    reader: LogReader
    appender: Appender
    producer_states: ProducerStates
    groups: Groups
    group_states: GroupStates


class KafkaBroker:
    """Topics as Kafka's topics; offsets are Kafka's, and compacted topics have gaps.

    It joins no group of Kafka's: the assignment in Postgres names the owners of partitions.
    """

    capabilities: ClassVar[frozenset[Capability]] = ALL - {
        Capability.SHARED_DELIVERY,
        Capability.RETENTION,  # Kafka's own affair, once a topic is created
    }

    def __init__(
        self,
        url: str,
        *,
        default_partitions: int,
        store: str,
        credentials: Mapping[str, Any] | None = None,
    ) -> None:
        """``store`` is the database's URL, and ``credentials`` say how to log in, as options of
        aiokafka, where the URL does not."""
        self._address = Address.parse(url, credentials)
        self._default_partitions = default_partitions
        self._store_url = store
        self._opened = 0
        """By how many; consumer and producer of an application share one."""
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._open: _Parts | None = None

    @property
    def _parts(self) -> _Parts:
        if self._open is None:
            raise BrokerUnavailable("the connection to Kafka is not open: start the application")
        return self._open

    # -- opening and closing -----------------------------------------------------------------

    async def open(self) -> None:
        async with self._opening:
            if self._open is None:
                with our_errors(self._address.shown):
                    async with AsyncExitStack() as stack:
                        self._open = await self._connect(stack)
                        self._stack = stack.pop_all()
            self._opened += 1

    async def _connect(self, stack: AsyncExitStack) -> _Parts:
        admin = await Admin.connect(self._address)
        stack.push_async_callback(admin.close)
        store = await Store.connect(self._store_url, admin)
        stack.push_async_callback(store.close)
        await store.incarnation()
        log_inspector = LogInspector(
            await started(new_consumer(self._address)), store, self._address.shown
        )
        stack.push_async_callback(log_inspector.close)
        consumer = await started(new_consumer(self._address))
        reader = LogReader(consumer, log_inspector, store, self._address.shown)
        stack.push_async_callback(reader.close)
        appender = Appender(self._address)
        stack.push_async_callback(appender.close)
        groups = Groups(store, log_inspector, self._address)
        stack.push_async_callback(groups.close)
        group_states = GroupStates(store)
        stack.push_async_callback(group_states.close)
        return _Parts(
            store,
            TopicCatalog(admin, store),
            log_inspector,
            reader,
            appender,
            ProducerStates(store, log_inspector, appender),
            groups,
            group_states,
        )

    async def close(self) -> None:
        async with self._opening:
            self._opened = max(0, self._opened - 1)
            if not self._opened and self._open is not None:
                self._open = None
                await self._stack.aclose()

    async def identity(self) -> str:
        return await self._parts.store.identity()

    async def incarnation(self) -> str:
        return await self._parts.store.incarnation()

    # -- topics ------------------------------------------------------------------------------

    async def create_topic(self, spec: TopicSpec) -> int:
        return await self._parts.topics.create(spec)

    async def topics(self) -> Mapping[str, int]:
        return await self._parts.topics.all()

    async def delete_topics(self, topics: Collection[str]) -> None:
        await self._parts.topics.delete(topics)

    async def close_topics(self, topics: Collection[str]) -> None:
        await self._parts.topics.close(topics)

    async def open_topics(self, partitions: Mapping[str, int]) -> None:
        tps = await self._parts.topics.add_partitions(partitions)
        await self._parts.groups.begin(tps)
        await self._parts.topics.open(partitions)

    async def _partitions_of(self, entries: Sequence[Outgoing]) -> Mapping[str, int]:
        """Of the topics of these entries, as far as they have proper names."""
        topics, default = self._parts.topics, self._default_partitions
        found = {
            topic: await topics.partitions(topic, default=default)
            for topic in {entry.topic for entry in entries}
            if name_fault(topic) is None
        }
        for topic in beyond(entries, found):
            found[topic] = await topics.create(TopicSpec(topic, default))
        return found

    async def _expand(self, topics: Iterable[str]) -> list[TP]:
        return await self._parts.topics.expand(topics, default=self._default_partitions)

    # -- appending ---------------------------------------------------------------------------

    async def append(self, entries: Sequence[Outgoing]) -> Sequence[Appended]:
        partitions = await self._partitions_of(entries)
        targets: dict[TP, list[int]] = {}
        outcomes: dict[int, Appended | BrokerError] = {}
        for index, entry in enumerate(entries):
            if refusal := refusal_of(entry, partitions):
                outcomes[index] = refusal
                continue
            topic, _, key, _, number, _ = entry
            if number is None:
                number = partition_of(key, partitions[topic])
            targets.setdefault(TP(topic, number), []).append(index)
        done = await asyncio.gather(
            *(self._append_to(tp, entries, left, outcomes) for tp, left in targets.items()),
            return_exceptions=True,
        )
        for error in done:
            if error is not None:
                raise error
        in_order = [outcomes[index] for index in range(len(entries))]
        appended = [outcome for outcome in in_order if isinstance(outcome, Appended)]
        if len(appended) < len(in_order):
            raise PartlyRefused(in_order)
        return appended

    async def _append_to(
        self,
        tp: TP,
        entries: Sequence[Outgoing],
        left: Sequence[int],
        outcomes: dict[int, Appended | BrokerError],
    ) -> None:
        while left:
            try:
                put = await self._parts.appender.put(tp, [entries[index] for index in left])
            except EntryRefused as refused:
                outcomes[left[0]] = refused
                left = left[1:]
                continue
            except LogClosed as closed:
                outcomes.update(dict.fromkeys(left, closed))
                return
            for offset, index in zip(range(put.first, put.end), left, strict=False):
                outcomes[index] = Appended(tp, offset, put.timestamp)
            left = left[put.end - put.first :]

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        partitions = await self._partitions_of(
            [entry for batch in batches for _, entry in batch.entries]
        )
        return await self._parts.producer_states.append(*divide(batches, partitions, refusal_of))

    async def last_sequences(self, producer_ids: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        return await self._parts.producer_states.last_sequences(producer_ids)

    async def blocked(self, tps: Collection[TP]) -> Mapping[TP, str]:  # noqa: ARG002
        return {}

    # -- reading -----------------------------------------------------------------------------

    async def read(
        self, positions: Mapping[TP, int], *, limit: int, wait: float
    ) -> Mapping[TP, Sequence[Record]]:
        try:
            return await self._parts.reader.read(positions, limit=limit, wait=wait)
        except OffsetOutOfRange as error:
            await self._parts.store.note_loss()
            # Whoever reads asks then whether it is the same broker still.
            raise BrokerUnavailable(str(error)) from error

    async def wake(self) -> None:
        self._parts.reader.wake()

    async def bounds(self, tps: Iterable[TP]) -> Mapping[TP, tuple[int, int]]:
        tps = list(tps)
        found = await self._parts.log_inspector.bounds(await self._parts.topics.known(tps))
        return {tp: found.get(tp, (0, 0)) for tp in tps}

    # -- what is kept ------------------------------------------------------------------------

    async def retentions(self) -> Mapping[str, Retention]:
        return {}

    async def acquire_cleaner_lease(self, keeper: str) -> bool:  # noqa: ARG002 - nobody has to
        return False

    async def trim(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, Trimmed]:  # noqa: ARG002
        return {}

    async def compact(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, Trimmed]:  # noqa: ARG002
        return {}

    async def held_back(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, HeldBack]:  # noqa: ARG002
        return {}

    async def warnings(self) -> Sequence[str]:
        return ()

    # -- groups ------------------------------------------------------------------------------

    async def confirm(self, tps: Collection[TP], incarnation: str) -> None:  # noqa: ARG002
        # Kafka hands out nothing that the replicas in sync do not have. Another cluster has not
        # got what was read.
        if incarnation != await self._parts.store.incarnation_of_log():
            raise Replaced

    async def join(self, group: str, topics: Iterable[str], *, from_start: bool) -> None:
        await self._parts.groups.join(group, await self._expand(topics), from_start=from_start)

    async def leave(self, group: str, topics: Iterable[str]) -> None:
        await self._parts.groups.leave(group, topics)

    async def groups(self, topics: Iterable[str]) -> Mapping[str, frozenset[str]]:
        return await self._parts.groups.of_topics(topics)

    async def positions(self, group: str, tps: Iterable[TP]) -> Mapping[TP, int]:
        return await self._parts.groups.positions(group, tps)

    async def floors(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        return await self._parts.groups.floors(tps)

    async def commit(self, group: str, advances: Mapping[TP, Advance]) -> None:
        ends = await self._parts.log_inspector.ends(advances)
        short = [tp for tp, advance in advances.items() if advance.position > ends[tp]]
        await self._parts.groups.commit(
            group, {tp: advance.position for tp, advance in advances.items() if tp not in short}
        )
        if short:
            await self._parts.store.note_loss()
            raise OffsetOutOfRange(
                f"{len(short)} partitions, {short[0].partition} of {short[0].topic} among them, "
                "end before the position of what was read in them: Kafka has lost entries"
            )

    async def status(self, group: str, topic: str) -> Sequence[PartitionStatus]:
        tps = [TP(topic, number) for number in range((await self.topics()).get(topic, 0))]
        bounds = await self.bounds(tps)
        positions = await self.positions(group, tps)
        status = []
        for tp in tps:
            first, end = bounds[tp]
            position = positions.get(tp)
            lag = 0 if position is None else end - max(first, position)
            status.append(PartitionStatus(end - first, lag, position))
        return status

    async def anomalies(self) -> Sequence[Anomaly]:
        return await self._parts.group_states.anomalies()

    async def survey(self, tps: Collection[TP]) -> Mapping[TP, PartitionSurvey]:
        bounds = await self.bounds(tps)
        joined = await self.groups({tp.topic for tp in tps})
        groups = sorted({group for of_topic in joined.values() for group in of_topic})
        positions = {group: await self.positions(group, tps) for group in groups}
        found: dict[TP, PartitionSurvey] = {}
        looked = 0
        for tp, (first, end) in bounds.items():
            progress: dict[str, GroupProgress] = {}
            for group in joined[tp.topic]:
                if (position := positions[group].get(tp)) is None:
                    continue
                next_one = max(first, position)
                age = None
                if next_one < end and looked < LOOKED_AT:
                    looked += 1
                    record = await self._parts.log_inspector.entry(tp, next_one)
                    age = record and max(0.0, time.time() - record.timestamp)
                progress[group] = GroupProgress(position, end - next_one, 0, age)
            found[tp] = PartitionSurvey(end - first, progress)
        return found

    async def troubles(self) -> Sequence[ServerTrouble]:
        return ()  # Kafka does not say

    # -- shared delivery ---------------------------------------------------------------------

    def share_group(self, group: str, consumer: str) -> ShareGroup:
        raise BrokerUnsupported(f"{consumer} of {group} needs shared delivery, which Kafka has not")

    # -- membership --------------------------------------------------------------------------

    async def heartbeat(self, group: str, member: str, heartbeat: Heartbeat) -> GroupState:
        return await self._parts.group_states.heartbeat(group, member, heartbeat)

    async def group_state(self, group: str) -> GroupState:
        return await self._parts.group_states.group_state(group)

    async def reassign(
        self, group: str, assignment: GroupAssignment, *, version: str, silent: Mapping[str, int]
    ) -> bool:
        return await self._parts.group_states.write(group, assignment, version, silent)

    async def reassigned(self, group: str, version: str, *, wait: float) -> None:
        await self._parts.group_states.changed(group, version, wait)
