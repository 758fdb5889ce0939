"""The broker's contract, kept by Redis Streams."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

from faust.types import TP

from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import (
    Advance,
    Anomaly,
    Appended,
    GroupState,
    Heartbeat,
    HeldBack,
    Outgoing,
    PartitionStatus,
    PartitionSurvey,
    PartlyRefused,
    Place,
    ProducerBatch,
    Record,
    Retention,
    ServerTrouble,
    TopicSpec,
    Trimmed,
)
from redfaust.brokers.capabilities import ALL, Capability
from redfaust.brokers.names import topic_fault
from redfaust.brokers.outgoing import beyond
from redfaust.brokers.partition_batch import divide
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.anomalies import Anomalies
from redfaust.brokers.redis.appending import Appender
from redfaust.brokers.redis.client import our_errors
from redfaust.brokers.redis.durability import warnings_of
from redfaust.brokers.redis.entry import refusal_of
from redfaust.brokers.redis.group_states import GroupStates
from redfaust.brokers.redis.groups import Groups
from redfaust.brokers.redis.producer_states import ProducerStates
from redfaust.brokers.redis.replication import Replication
from redfaust.brokers.redis.retention import Retentions
from redfaust.brokers.redis.servers import servers_by_url
from redfaust.brokers.redis.share_group import RedisShareGroup
from redfaust.brokers.redis.stored import identity_of, shown_name
from redfaust.brokers.redis.survey import Survey, troubles_of
from redfaust.brokers.redis.topics import TopicCatalog
from redfaust.errors import BrokerError, BrokerUnavailable


class RedisBroker:
    """Topics as streams, positions as consumer groups.

    The group of an application is where its position is kept for all to see; it is moved with
    ``XGROUP SETID … ENTRIESREAD``, so that ``XINFO GROUPS`` shows the true lag.
    """

    capabilities: ClassVar[frozenset[Capability]] = ALL

    def __init__(self, url: str, *, default_partitions: int) -> None:
        self._url = url
        self._default_partitions = default_partitions
        self._servers = servers_by_url(url)
        self._client = self._servers.client
        self._topics = TopicCatalog(self._client)
        self._appender = Appender(self._client, outcome_of=self._outcome_of)
        self._producer_states = ProducerStates(self._client, self._servers.sequences)
        self._group_states = GroupStates(self._client)
        self._retentions = Retentions(self._client)
        self._survey = Survey(self._client)
        self._replication = Replication(self._servers)
        self._anomalies = Anomalies(
            self._client, self._topics, self._retentions, self._group_states
        )
        self._groups = Groups(self._client)

    async def open(self) -> None:
        with our_errors(self._url):
            await self._servers.open()

    async def close(self) -> None:
        await self._servers.close()

    async def identity(self) -> str:
        with our_errors(self._url):
            return await identity_of(self._client)

    async def incarnation(self) -> str:
        with our_errors(self._url):
            return await self._servers.incarnation()

    async def create_topic(self, spec: TopicSpec) -> int:
        with our_errors(self._url):
            count = await self._topics.create(spec)
            if spec.retention is not None:
                await self._retentions.declare(spec.name, spec.retention)
            return count

    async def topics(self) -> Mapping[str, int]:
        with our_errors(self._url):
            return await self._topics.all()

    async def delete_topics(self, topics: Collection[str]) -> None:
        with our_errors(self._url):
            counts = await self._topics.all()
            for topic in topics:
                await self._retentions.forget(topic)
                tps = [TP(topic, number) for number in range(counts.get(topic, 0))]
                for key in (name(tp) for tp in tps for name in keys.OF_PARTITIONS):
                    await self._client.unlink(key)
            await self._topics.delete(topics)

    async def close_topics(self, topics: Collection[str]) -> None:
        with our_errors(self._url):
            await self._topics.close(topics)

    async def open_topics(self, partitions: Mapping[str, int]) -> None:
        with our_errors(self._url):
            joined = await self._groups.places(TP(topic, 0) for topic in partitions)
            for (topic, _), places in joined.items():
                tps = [TP(topic, number) for number in range(partitions[topic])]
                names = [place["name"] for place in places]
                await self._groups.join(names, tps, from_start=True)
            await self._topics.open(partitions)

    async def append(self, entries: Sequence[Outgoing]) -> Sequence[Appended]:
        with our_errors(self._url):
            partitions = await self._partitions_of(entries)
            outcomes = await self._appender.append(entries, partitions)
        appended = [outcome for outcome in outcomes if isinstance(outcome, Appended)]
        if len(appended) < len(outcomes):
            raise PartlyRefused(outcomes)
        return appended

    def _outcome_of(self, error: Exception) -> BrokerError:
        """What became of an entry. Raises BrokerUnavailable if it should be tried again."""
        try:
            with our_errors(self._url):
                raise error
        except BrokerUnavailable:
            raise
        except BrokerError as refused:
            return refused

    async def _partitions_of(self, entries: Sequence[Outgoing]) -> Mapping[str, int]:
        """Of the topics of these entries, as far as they have proper names."""
        default = self._default_partitions
        topics = {entry.topic for entry in entries}
        found = {
            topic: await self._topics.partitions(topic, default=default)
            for topic in topics
            if topic_fault(topic) is None
        }
        for topic in beyond(entries, found):
            found[topic] = await self._topics.create(TopicSpec(topic, default))
        return found

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        with our_errors(self._url):
            partitions = await self._partitions_of(
                [entry for batch in batches for _, entry in batch.entries]
            )
            return await self._producer_states.append(*divide(batches, partitions, refusal_of))

    async def last_sequences(self, producer_ids: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        with our_errors(self._url):
            counts = await self._topics.all()
            tps = [TP(topic, number) for topic in counts for number in range(counts[topic])]
            return await self._producer_states.last_sequences(producer_ids, tps)

    async def blocked(self, tps: Collection[TP]) -> Mapping[TP, str]:
        with our_errors(self._url):
            return await self._producer_states.blocked(tps)

    async def read(
        self, positions: Mapping[TP, int], *, limit: int, wait: float
    ) -> Mapping[TP, Sequence[Record]]:
        with our_errors(self._url):
            return await self._servers.reader.read(positions, limit=limit, wait=wait)

    async def wake(self) -> None:
        self._servers.reader.wake()

    async def confirm(self, tps: Collection[TP], incarnation: str) -> None:
        with our_errors(self._url):
            await self._replication.confirm(tps, incarnation)

    async def join(self, group: str, topics: Iterable[str], *, from_start: bool) -> None:
        with our_errors(self._url):
            tps = await self._topics.expand(topics, default=self._default_partitions)
            await self._groups.join([group], tps, from_start=from_start)

    async def leave(self, group: str, topics: Iterable[str]) -> None:
        with our_errors(self._url):
            await self._groups.leave(group, await self._topics.known(topics))

    async def groups(self, topics: Iterable[str]) -> Mapping[str, frozenset[str]]:
        firsts = [TP(topic, 0) for topic in topics]
        with our_errors(self._url):
            found = await self._groups.places(firsts)
        return {
            tp.topic: frozenset(shown_name(group["name"]) for group in found.get(tp, ()))
            for tp in firsts
        }

    async def positions(self, group: str, tps: Iterable[TP]) -> Mapping[TP, int]:
        with our_errors(self._url):
            return await self._groups.positions(group, tps)

    async def floors(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        with our_errors(self._url):
            return await self._groups.floors(tps)

    async def commit(self, group: str, advances: Mapping[TP, Advance]) -> None:
        with our_errors(self._url):
            await self._groups.commit(group, advances)

    async def bounds(self, tps: Iterable[TP]) -> Mapping[TP, tuple[int, int]]:
        with our_errors(self._url):
            return await self._groups.bounds(tps)

    async def retentions(self) -> Mapping[str, Retention]:
        with our_errors(self._url):
            return await self._retentions.all()

    async def acquire_cleaner_lease(self, keeper: str) -> bool:
        with our_errors(self._url):
            return await self._retentions.acquire_cleaner_lease(keeper)

    async def trim(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, Trimmed]:
        with our_errors(self._url):
            return await self._retentions.trim(retentions)

    async def compact(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, Trimmed]:
        with our_errors(self._url):
            return await self._retentions.compact(retentions)

    async def held_back(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, HeldBack]:
        with our_errors(self._url):
            return await self._retentions.held_back(retentions)

    async def warnings(self) -> Sequence[str]:
        with our_errors(self._url):
            tps = await self._topics.expand(
                await self._topics.all(), default=self._default_partitions
            )
            found = [
                line for node in await self._servers.nodes(tps) for line in await warnings_of(node)
            ]
        return list(dict.fromkeys(found))

    async def status(self, group: str, topic: str) -> Sequence[PartitionStatus]:
        with our_errors(self._url):
            tps = await self._topics.known([topic])
            found = await self._groups.statuses(group, tps)
        return [found[tp] for tp in tps]

    async def anomalies(self) -> Sequence[Anomaly]:
        with our_errors(self._url):
            return await self._anomalies.find()

    async def survey(self, tps: Collection[TP]) -> Mapping[TP, PartitionSurvey]:
        with our_errors(self._url):
            return await self._survey.of(tps)

    async def troubles(self) -> Sequence[ServerTrouble]:
        with our_errors(self._url):
            servers = await self._servers.all()
            found = await asyncio.gather(
                *(troubles_of(server, name) for name, server in servers.items())
            )
        return [trouble for of_server in found for trouble in of_server]

    def share_group(self, group: str, consumer: str) -> RedisShareGroup:
        return RedisShareGroup(
            self._client,
            self._servers.new_reader(),
            self._servers.sequences,
            self._url,
            self._topics,
            self._groups,
            group,
            consumer,
            default_partitions=self._default_partitions,
        )

    async def heartbeat(self, group: str, member: str, heartbeat: Heartbeat) -> GroupState:
        with our_errors(self._url):
            return await self._group_states.heartbeat(group, member, heartbeat)

    async def group_state(self, group: str) -> GroupState:
        with our_errors(self._url):
            return await self._group_states.group_state(group)

    async def reassign(
        self, group: str, assignment: GroupAssignment, *, version: str, silent: Mapping[str, int]
    ) -> bool:
        with our_errors(self._url):
            return await self._group_states.write(group, assignment, version, silent)

    async def reassigned(self, group: str, version: str, *, wait: float) -> None:
        with our_errors(self._url):
            await self._group_states.changed(group, version, wait)
