"""The broker's contract, kept in this process.

Brokers of the same URL share one :class:`Log`, as clients of one server would; it ends with the
process.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from faust.types import TP

from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import (
    CLEANER_LEASE,
    Advance,
    Anomaly,
    Appended,
    EntriesRefused,
    GroupProgress,
    GroupState,
    Heartbeat,
    HeldBack,
    LogTruncated,
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
from redfaust.brokers.memory import retention
from redfaust.brokers.memory.group_states import Registry
from redfaust.brokers.memory.records import Records
from redfaust.brokers.memory.share_group import MemoryShareGroup, SharedPlace
from redfaust.brokers.names import header_name, topic_fault
from redfaust.brokers.outgoing import refusal_of
from redfaust.brokers.partition_batch import divide
from redfaust.brokers.partitioner import partition_of
from redfaust.brokers.sequences import Source
from redfaust.errors import BrokerError, TopicClosed


@dataclass
class Log:
    """What a server would hold."""

    identity: str = field(default_factory=lambda: secrets.token_hex(8))
    topics: dict[str, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    retentions: dict[str, Retention] = field(default_factory=dict)
    cleaner: tuple[str, float] = ("", 0.0)
    """The holder of the cleaner lease, and when it ends by the monotonic clock."""
    records: dict[TP, Records] = field(default_factory=lambda: defaultdict(Records))
    last_sequences: dict[tuple[str, TP], int] = field(default_factory=dict)
    positions: dict[tuple[str, TP], int] = field(default_factory=dict)
    shared: dict[tuple[str, TP], SharedPlace] = field(default_factory=dict)
    registries: dict[str, Registry] = field(default_factory=lambda: defaultdict(Registry))
    readers: set[asyncio.Event] = field(default_factory=set)


_logs: dict[str, Log] = defaultdict(Log)


class MemoryBroker:
    """Offsets are dense and begin at 0."""

    capabilities: ClassVar[frozenset[Capability]] = ALL

    def __init__(self, url: str, *, default_partitions: int) -> None:
        self._log = _logs[url]
        self._default_partitions = default_partitions
        self._news = asyncio.Event()

    async def open(self) -> None:
        self._log.readers.add(self._news)

    async def close(self) -> None:
        self._log.readers.discard(self._news)
        self._news.set()

    async def identity(self) -> str:
        return self._log.identity

    async def incarnation(self) -> str:
        return self._log.identity

    async def create_topic(self, spec: TopicSpec) -> int:
        count = self._partitions(spec.name, default=spec.partitions)
        if spec.retention is not None:
            self._log.retentions[spec.name] = spec.retention
        return count

    async def topics(self) -> Mapping[str, int]:
        return dict(sorted(self._log.topics.items()))

    async def delete_topics(self, topics: Collection[str]) -> None:
        for topic in topics:
            self._log.topics.pop(topic, None)
            self._log.retentions.pop(topic, None)
            self._log.closed.discard(topic)
            for tp in [tp for tp in self._log.records if tp.topic == topic]:
                del self._log.records[tp]
            for places in (self._log.last_sequences, self._log.positions, self._log.shared):
                for place in [place for place in places if place[1].topic == topic]:
                    del places[place]

    async def close_topics(self, topics: Collection[str]) -> None:
        self._log.closed.update(topics)

    async def open_topics(self, partitions: Mapping[str, int]) -> None:
        self._log.topics.update(partitions)
        self._log.closed.difference_update(partitions)
        for tp in self._expand(partitions):
            for group, other in list(self._log.positions):
                if other == TP(tp.topic, 0):
                    self._log.positions.setdefault((group, tp), 0)
            for group, other in list(self._log.shared):
                if other == TP(tp.topic, 0):
                    self._log.shared.setdefault((group, tp), SharedPlace(0))

    def _partitions(self, topic: str, *, default: int | None = None) -> int:
        """Number of partitions of a topic that is open. Raises BrokerError if it has no proper
        name."""
        if fault := topic_fault(topic):
            raise BrokerError(fault)
        if topic in self._log.closed:
            raise TopicClosed(topic)
        return self._log.topics.setdefault(topic, default or self._default_partitions)

    async def append(self, entries: Sequence[Outgoing]) -> Sequence[Appended]:
        partitions = self._partitions_of(entries)
        outcomes = [
            refusal_of(entry, partitions) or self._append(_target(entry, partitions), entry)
            for entry in entries
        ]
        self._wake_readers()
        appended = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
        if len(appended) < len(outcomes):
            raise PartlyRefused(outcomes)
        return appended

    def _partitions_of(self, entries: Iterable[Outgoing]) -> Mapping[str, int]:
        """Of the topics of these entries, as far as they have proper names."""
        topics = {entry.topic for entry in entries}
        return {topic: self._partitions(topic) for topic in topics if topic_fault(topic) is None}

    def _append(self, tp: TP, entry: Outgoing, source: Source | None = None) -> Appended:
        records = self._log.records[tp]
        now = time.time()
        timestamp = now if entry.timestamp is None else entry.timestamp
        headers = entry.headers and tuple((header_name(name), each) for name, each in entry.headers)
        record = Record(records.end, timestamp, entry.key, entry.value, headers, source)
        records.append(record, now)
        return Appended(tp, record.offset, now)

    def _wake_readers(self) -> None:
        for reader in self._log.readers:
            reader.set()

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        partitions = self._partitions_of(entry for batch in batches for _, entry in batch.entries)
        partition_batches, refused = divide(batches, partitions, refusal_of)
        last_sequences = self._log.last_sequences
        if set_back := {
            partition_batch.producer_id
            for partition_batch in partition_batches
            if last_sequences.get((partition_batch.producer_id, partition_batch.tp), 0)
            < partition_batch.after
        }:
            raise LogTruncated(set_back)
        for producer_id, tp, _, entries in partition_batches:
            for number, entry in entries:
                if number > last_sequences.get((producer_id, tp), 0):
                    last_sequences[producer_id, tp] = number
                    self._append(tp, entry, (producer_id, number))
        self._wake_readers()
        if refused:
            raise EntriesRefused(refused)
        places: dict[str, dict[TP, Place]] = {}
        for producer_id, tp, _, _ in partition_batches:
            place = Place(last_sequences[producer_id, tp], self._log.records[tp].end)
            places.setdefault(producer_id, {})[tp] = place
        return places

    async def last_sequences(self, producer_ids: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        found: dict[str, dict[TP, int]] = {producer_id: {} for producer_id in producer_ids}
        for (producer_id, tp), last_sequence in self._log.last_sequences.items():
            if producer_id in found:
                found[producer_id][tp] = last_sequence
        return found

    async def blocked(self, tps: Collection[TP]) -> Mapping[TP, str]:  # noqa: ARG002
        return {}

    async def read(
        self, positions: Mapping[TP, int], *, limit: int, wait: float
    ) -> Mapping[TP, Sequence[Record]]:
        found = self._available(positions, limit)
        if not found and wait > 0:
            self._news.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._news.wait()
            except TimeoutError:
                pass
            found = self._available(positions, limit)
        return found

    def _available(self, positions: Mapping[TP, int], limit: int) -> dict[TP, list[Record]]:
        return {
            tp: found
            for tp, position in positions.items()
            if (found := self._log.records[tp].read(position, limit))
        }

    async def wake(self) -> None:
        self._news.set()

    async def confirm(self, tps: Collection[TP], incarnation: str) -> None:  # noqa: ARG002
        if incarnation != await self.incarnation():
            raise Replaced

    async def join(self, group: str, topics: Iterable[str], *, from_start: bool) -> None:
        for tp in self._expand(topics):
            records = self._log.records[tp]
            start = records.first if from_start else records.end
            self._log.positions.setdefault((group, tp), start)

    async def leave(self, group: str, topics: Iterable[str]) -> None:
        for tp in self._expand(topics):
            self._log.positions.pop((group, tp), None)
            self._log.shared.pop((group, tp), None)

    async def groups(self, topics: Iterable[str]) -> Mapping[str, frozenset[str]]:
        joined = {*self._log.positions, *self._log.shared}
        return {
            topic: frozenset(group for group, tp in joined if tp.topic == topic) for topic in topics
        }

    async def positions(self, group: str, tps: Iterable[TP]) -> Mapping[TP, int]:
        positions = self._log.positions
        return {tp: positions[group, tp] for tp in tps if (group, tp) in positions}

    async def floors(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        found = {tp: self._floors(tp) for tp in tps}
        return {tp: min(floors.values()) for tp, floors in found.items() if floors}

    def _floors(self, tp: TP) -> dict[str, int]:
        """By group, the position below which it needs nothing any more."""
        shared = {at: place.floor for at, place in self._log.shared.items()}
        places = {**self._log.positions, **shared}
        return {group: position for (group, at), position in places.items() if at == tp}

    async def commit(self, group: str, advances: Mapping[TP, Advance]) -> None:
        for tp, advance in advances.items():
            before = self._log.positions.get((group, tp), 0)
            self._log.positions[group, tp] = max(before, advance.position)

    async def bounds(self, tps: Iterable[TP]) -> Mapping[TP, tuple[int, int]]:
        logs = {tp: self._log.records[tp] for tp in tps}
        return {tp: (records.first, records.end) for tp, records in logs.items()}

    async def retentions(self) -> Mapping[str, Retention]:
        return dict(self._log.retentions)

    async def acquire_cleaner_lease(self, keeper: str) -> bool:
        holder, until = self._log.cleaner
        now = time.monotonic()
        if holder != keeper and now < until:
            return False
        self._log.cleaner = (keeper, now + CLEANER_LEASE)
        return True

    async def trim(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, Trimmed]:
        return {
            tp: retention.trim(self._log.records[tp], kept, self._floors(tp))
            for tp, kept in retentions.items()
        }

    async def compact(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, Trimmed]:
        return {
            tp: retention.compact(self._log.records[tp], kept, self._floors(tp))
            for tp, kept in retentions.items()
            if kept.compacted
        }

    async def held_back(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, HeldBack]:
        found = {
            tp: retention.held_back(self._log.records[tp], kept, self._floors(tp))
            for tp, kept in retentions.items()
        }
        return {tp: each for tp, each in found.items() if each is not None}

    async def warnings(self) -> Sequence[str]:
        return ()

    async def status(self, group: str, topic: str) -> Sequence[PartitionStatus]:
        partitions = self._log.topics.get(topic, 0)
        return [self._status(group, TP(topic, number)) for number in range(partitions)]

    def _status(self, group: str, tp: TP) -> PartitionStatus:
        records = self._log.records[tp]
        length = len(records)
        if (shared := self._log.shared.get((group, tp))) is not None:
            claimed = len(shared.claimed)
            lag = length - records.count_below(shared.position) + claimed
            return PartitionStatus(length, lag, shared.position, claimed)
        position = self._log.positions.get((group, tp))
        lag = 0 if position is None else length - records.count_below(position)
        return PartitionStatus(length, lag, position)

    async def anomalies(self) -> Sequence[Anomaly]:
        return ()

    async def survey(self, tps: Collection[TP]) -> Mapping[TP, PartitionSurvey]:
        return {tp: self._survey(tp) for tp in tps}

    def _survey(self, tp: TP) -> PartitionSurvey:
        records = self._log.records[tp]
        places = {group: place for (group, at), place in self._log.shared.items() if at == tp}
        ordered = {group: at for (group, tp_), at in self._log.positions.items() if tp_ == tp}
        groups = {group: self._progress(records, at, at, 0) for group, at in ordered.items()}
        for group, place in places.items():
            groups[group] = self._progress(records, place.position, place.floor, len(place.claimed))
        return PartitionSurvey(len(records), groups)

    def _progress(self, records: Records, position: int, floor: int, claimed: int) -> GroupProgress:
        lag = len(records) - records.count_below(position) + claimed
        oldest = records.read(floor, 1) if lag else []
        age = max(0.0, time.time() - records.appended_at(oldest[0].offset)) if oldest else None
        return GroupProgress(position, lag, claimed, age)

    async def troubles(self) -> Sequence[ServerTrouble]:
        return ()

    def _expand(self, topics: Iterable[str]) -> list[TP]:
        return [
            TP(topic, partition)
            for topic in topics
            for partition in range(self._log.topics.setdefault(topic, self._default_partitions))
        ]

    async def heartbeat(self, group: str, member: str, heartbeat: Heartbeat) -> GroupState:
        return self._log.registries[group].heartbeat(member, heartbeat)

    def share_group(self, group: str, consumer: str) -> MemoryShareGroup:
        return MemoryShareGroup(
            self._log.shared, self._log.records, self._log.readers, group, consumer, self._expand
        )

    async def group_state(self, group: str) -> GroupState:
        return self._log.registries[group].group_state()

    async def reassign(
        self, group: str, assignment: GroupAssignment, *, version: str, silent: Mapping[str, int]
    ) -> bool:
        return self._log.registries[group].write(assignment, version, silent)

    async def reassigned(self, group: str, version: str, *, wait: float) -> None:
        await self._log.registries[group].changed(version, wait)


def _target(entry: Outgoing, partitions: Mapping[str, int]) -> TP:
    topic, _, key, _, partition, _ = entry
    if partition is None:
        partition = partition_of(key, partitions[topic])
    return TP(topic, partition)
