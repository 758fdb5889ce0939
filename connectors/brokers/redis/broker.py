"""The broker's contract, kept by Redis Streams."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, ClassVar, cast

from faust.types import TP

from connectors.brokers.broker import (
    Advance,
    Appended,
    Beat,
    HeldBack,
    LaneBatch,
    Outgoing,
    PartitionStatus,
    PartitionSurvey,
    PartlyRefused,
    Place,
    Record,
    Retention,
    Roll,
    ServerTrouble,
    TopicSpec,
    Trimmed,
)
from connectors.brokers.capabilities import ALL, Capability
from connectors.brokers.lots import divide
from connectors.brokers.names import topic_fault
from connectors.brokers.outgoing import beyond
from connectors.brokers.redis import keys
from connectors.brokers.redis.appending import Appender
from connectors.brokers.redis.client import our_errors, script
from connectors.brokers.redis.entry import refusal_of
from connectors.brokers.redis.lanes import Lanes
from connectors.brokers.redis.offsets import BEGINNING, offset_of, stream_id
from connectors.brokers.redis.registers import Registers
from connectors.brokers.redis.replication import Replication
from connectors.brokers.redis.retention import Retentions
from connectors.brokers.redis.servers import servers_by_url
from connectors.brokers.redis.sharing import RedisSharing
from connectors.brokers.redis.survey import Survey, troubles_of
from connectors.brokers.redis.topics import TopicCatalog
from connectors.brokers.shares import Register
from connectors.errors import BrokerError, BrokerUnavailable

_NO_GROUPS = ("no such key", "WRONGTYPE", "The XGROUP subcommand requires the key to exist")
"""What Redis says of a stream that is not there."""


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
        self._lanes = Lanes(self._client, self._servers.sequences)
        self._registers = Registers(self._client)
        self._retentions = Retentions(self._client)
        self._survey = Survey(self._client)
        self._replication = Replication(self._servers)
        self._join = script(self._client, "streams", "join")
        self._commit = script(self._client, "streams", "commit").script

    async def open(self) -> None:
        with our_errors(self._url):
            await self._servers.open()

    async def close(self) -> None:
        await self._servers.close()

    async def identity(self) -> str:
        with our_errors(self._url):
            await self._client.set(keys.IDENTITY, secrets.token_hex(8), nx=True)
            return cast("bytes", await self._client.get(keys.IDENTITY)).decode()

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
        joined = await self.groups(partitions)
        with our_errors(self._url):
            async with self._client.pipeline(transaction=False) as pipeline:
                for topic, count in partitions.items():
                    streams = [keys.stream(TP(topic, number)) for number in range(count)]
                    for stream, group in product(streams, joined[topic]):
                        await self._join(keys=[stream], args=[group, "start"], client=pipeline)
                await pipeline.execute()
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

    async def append_once(self, batches: Sequence[LaneBatch]) -> Mapping[str, Mapping[TP, Place]]:
        with our_errors(self._url):
            partitions = await self._partitions_of(
                [entry for batch in batches for _, entry in batch.entries]
            )
            return await self._lanes.append(*divide(batches, partitions, refusal_of))

    async def marks(self, lanes: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        with our_errors(self._url):
            counts = await self._topics.all()
            tps = [TP(topic, number) for topic in counts for number in range(counts[topic])]
            return await self._lanes.marks(lanes, tps)

    async def blocked(self, tps: Collection[TP]) -> Mapping[TP, str]:
        with our_errors(self._url):
            return await self._lanes.blocked(tps)

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
        where = "start" if from_start else "end"
        with our_errors(self._url):
            for tp in await self._topics.expand(topics, default=self._default_partitions):
                await self._join(keys=[keys.stream(tp)], args=[group, where])

    async def leave(self, group: str, topics: Iterable[str]) -> None:
        counts = await self.topics()
        with our_errors(self._url):
            async with self._client.pipeline(transaction=False) as pipeline:
                for topic in topics:
                    for number in range(counts.get(topic, 0)):
                        pipeline.xgroup_destroy(keys.stream(TP(topic, number)), group)
                replies = await pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception) and not _says_no_groups(reply):
                    raise reply

    async def groups(self, topics: Iterable[str]) -> Mapping[str, frozenset[str]]:
        firsts = [TP(topic, 0) for topic in topics]
        found = await self._groups(firsts)
        return {
            tp.topic: frozenset(group["name"].decode() for group in found.get(tp, ()))
            for tp in firsts
        }

    async def positions(self, group: str, tps: Iterable[TP]) -> Mapping[TP, int]:
        found = {}
        for tp in tps:
            joined = await self._group(group, tp)
            if joined is not None:
                found[tp] = offset_of(joined["last-delivered-id"]) + 1
        return found

    async def floors(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        floors: dict[TP, int] = {}
        shared: list[tuple[TP, bytes]] = []
        for tp, groups in (await self._groups(tps)).items():
            floors[tp] = min(offset_of(group["last-delivered-id"]) for group in groups) + 1
            shared += [(tp, group["name"]) for group in groups if group["pending"]]
        for tp, oldest in (await self._oldest_claimed(shared)).items():
            floors[tp] = min(floors[tp], oldest)
        return floors

    async def _groups(self, tps: Iterable[TP]) -> dict[TP, list[dict[str, Any]]]:
        """The groups of each partition that has some."""
        tps = list(tps)
        found: dict[TP, list[dict[str, Any]]] = {}
        with our_errors(self._url):
            async with self._client.pipeline(transaction=False) as pipeline:
                for tp in tps:
                    pipeline.xinfo_groups(keys.stream(tp))
                replies = await pipeline.execute(raise_on_error=False)
            for tp, groups in zip(tps, replies, strict=True):
                if isinstance(groups, Exception):
                    if _says_no_groups(groups):
                        continue
                    raise groups
                if groups:
                    found[tp] = groups
        return found

    async def _oldest_claimed(self, groups: Sequence[tuple[TP, bytes]]) -> Mapping[TP, int]:
        """The oldest entries that consumers of these groups have in hand."""
        with our_errors(self._url):
            async with self._client.pipeline(transaction=False) as pipeline:
                for tp, group in groups:
                    pipeline.xpending(keys.stream(tp), group)
                replies = await pipeline.execute()
        oldest: dict[TP, int] = {}
        for (tp, _), pending in zip(groups, replies, strict=True):
            if pending["min"] is not None:  # it may all be settled by now
                offset = offset_of(pending["min"])
                oldest[tp] = min(offset, oldest.get(tp, offset))
        return oldest

    async def commit(self, group: str, advances: Mapping[TP, Advance]) -> None:
        with our_errors(self._url):
            async with self._client.pipeline(transaction=False) as pipeline:
                for tp, (position, finished) in advances.items():
                    # The source: by its hash redis-py would ask first whether it is known.
                    pipeline.execute_command(
                        *("EVAL", self._commit, 1, keys.stream(tp)),
                        *(group, stream_id(position - 1), finished),
                    )
                replies = await pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply

    async def bounds(self, tps: Iterable[TP]) -> Mapping[TP, tuple[int, int]]:
        with our_errors(self._url):
            return {tp: await self._bounds(keys.stream(tp)) for tp in tps}

    async def _bounds(self, stream: str) -> tuple[int, int]:
        if not await self._client.exists(stream):
            return BEGINNING, BEGINNING
        info = await self._client.xinfo_stream(stream)
        end = offset_of(info["last-generated-id"]) + 1
        first = info["first-entry"]
        return (offset_of(first[0]) if first else end), end

    async def retentions(self) -> Mapping[str, Retention]:
        with our_errors(self._url):
            return await self._retentions.all()

    async def keeps_house(self, keeper: str) -> bool:
        with our_errors(self._url):
            return await self._retentions.keeps_house(keeper)

    async def trim(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, Trimmed]:
        with our_errors(self._url):
            return await self._retentions.trim(retentions)

    async def compact(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, Trimmed]:
        with our_errors(self._url):
            return await self._retentions.compact(retentions)

    async def held_back(self, retentions: Mapping[TP, Retention]) -> Mapping[TP, HeldBack]:
        with our_errors(self._url):
            return await self._retentions.held_back(retentions)

    async def status(self, group: str, topic: str) -> Sequence[PartitionStatus]:
        with our_errors(self._url):
            tps = await self._topics.expand([topic], default=self._default_partitions)
            return [await self._status(group, tp) for tp in tps]

    async def _status(self, group: str, tp: TP) -> PartitionStatus:
        length = await self._client.xlen(keys.stream(tp))
        joined = await self._group(group, tp)
        if joined is None:
            return PartitionStatus(length, length, None)
        position = offset_of(joined["last-delivered-id"]) + 1
        # Redis gives no lag where entries were deleted ahead of the group: what is there is
        # the most that it can be.
        lag = length if joined["lag"] is None else joined["lag"]
        return PartitionStatus(length, lag + joined["pending"], position, joined["pending"])

    async def _group(self, group: str, tp: TP) -> dict[str, Any] | None:
        with our_errors(self._url):
            if not await self._client.exists(keys.stream(tp)):
                return None
            for candidate in await self._client.xinfo_groups(keys.stream(tp)):
                if candidate["name"] == group.encode():
                    return dict(candidate)
        return None

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

    def sharing(self, group: str, consumer: str) -> RedisSharing:
        return RedisSharing(
            self._client,
            self._servers.new_reader(),
            self._servers.sequences,
            self._url,
            self._topics,
            group,
            consumer,
            default_partitions=self._default_partitions,
        )

    async def beat(self, group: str, member: str, beat: Beat) -> Roll:
        with our_errors(self._url):
            return await self._registers.beat(group, member, beat)

    async def roll(self, group: str) -> Roll:
        with our_errors(self._url):
            return await self._registers.roll(group)

    async def reassign(
        self, group: str, register: Register, *, version: str, silent: Mapping[str, int]
    ) -> bool:
        with our_errors(self._url):
            return await self._registers.write(group, register, version, silent)

    async def reassigned(self, group: str, version: str, *, wait: float) -> None:
        with our_errors(self._url):
            await self._registers.changed(group, version, wait)


def _says_no_groups(error: Exception) -> bool:
    return str(error).startswith(_NO_GROUPS)
