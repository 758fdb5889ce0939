"""Where consumer groups stand. Postgres says so, and Kafka is told, so that its own tools show the
lag: a group there could be moved back by whoever was stopped for long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from redfaust.brokers.kafka.address import Address
from redfaust.brokers.kafka.clients import new_consumer, started
from redfaust.brokers.kafka.log_inspector import LogInspector
from redfaust.brokers.kafka.store import Store, columns, query

TELL_EVERY = 0.5
"""Seconds between two commits of a group's offsets to Kafka."""

logger = logging.getLogger(__name__)


class Groups:
    """The positions of all groups. See :class:`~redfaust.brokers.broker.Broker`."""

    def __init__(self, store: Store, log_inspector: LogInspector, address: Address) -> None:
        self._store = store
        self._log_inspector = log_inspector
        self._address = address
        self._told: dict[str, _Told] = {}

    async def close(self) -> None:
        """Tell Kafka what it has not been told yet, and disconnect."""
        await asyncio.gather(*(told.close() for told in self._told.values()))

    async def join(self, group: str, tps: Collection[TP], *, from_start: bool) -> None:
        """Give the group a position in each partition where it has none, or one behind the end."""
        # Before the bounds: no group is behind an end that was looked up later.
        there = await self._stored(group, tps)
        bounds = await self._log_inspector.bounds(tps)
        missing = [tp for tp in tps if tp not in there]
        await self._enter([group], {tp: bounds[tp][0 if from_start else 1] for tp in missing})
        behind = {tp: at for tp, at in there.items() if at > bounds[tp][1]}
        await self._restart(group, behind, [bounds[tp][0] for tp in behind])

    async def _restart(
        self, group: str, positions: Mapping[TP, int], firsts: Sequence[int]
    ) -> None:
        """Begin with the oldest entry where a log is another one: Kafka loses no end of one, unless
        it was told that it may."""
        if not positions:
            return
        async with self._store.transaction() as connection:
            await connection.execute(
                query("restart_group"),
                self._store.log,
                group,
                *columns(positions),
                list(positions.values()),
                list(firsts),
            )

    async def begin(self, tps: Iterable[TP]) -> None:
        """Give all groups of these topics a position at the oldest entry where they have none."""
        for tp in tps:
            groups = (await self.of_topics([tp.topic]))[tp.topic]
            (first, _) = (await self._log_inspector.bounds([tp]))[tp]
            await self._enter(groups, {tp: first})

    async def _enter(self, groups: Collection[str], positions: Mapping[TP, int]) -> None:
        if not positions:
            return
        async with self._store.transaction() as connection:
            for group in groups:
                await connection.execute(
                    query("enter_group"),
                    self._store.log,
                    group,
                    *columns(positions),
                    list(positions.values()),
                )

    async def leave(self, group: str, topics: Iterable[str]) -> None:
        """Forget the group's positions."""
        async with self._store.transaction() as connection:
            await connection.execute(query("leave"), self._store.log, group, list(topics))

    async def of_topics(self, topics: Iterable[str]) -> dict[str, frozenset[str]]:
        """By topic, its groups."""
        topics = list(topics)
        async with self._store.transaction() as connection:
            rows = await connection.fetch(query("select_groups"), self._store.log, topics)
        found: dict[str, set[str]] = {topic: set() for topic in topics}
        for topic, group in rows:
            found[topic].add(group)
        return {topic: frozenset(groups) for topic, groups in found.items()}

    async def positions(self, group: str, tps: Iterable[TP]) -> dict[TP, int]:
        """The group's positions, none of them behind the end of a log that was set back."""
        stored = await self._stored(group, tps)
        ends = await self._log_inspector.ends(stored)
        return {tp: min(position, ends[tp]) for tp, position in stored.items()}

    async def _stored(self, group: str, tps: Iterable[TP]) -> dict[TP, int]:
        async with self._store.transaction() as connection:
            rows = await connection.fetch(
                query("select_positions"), self._store.log, group, *columns(tps)
            )
        return {TP(topic, partition): position for topic, partition, position in rows}

    async def floors(self, tps: Iterable[TP]) -> dict[TP, int]:
        """The lowest position of any group in each partition."""
        async with self._store.transaction() as connection:
            rows = await connection.fetch(query("select_floors"), self._store.log, *columns(tps))
        return {TP(topic, partition): floor for topic, partition, floor in rows}

    async def commit(self, group: str, positions: Mapping[TP, int]) -> None:
        """Move the group on."""
        async with self._store.transaction() as connection:
            rows = await connection.fetch(
                query("advance_group"),
                self._store.log,
                group,
                *columns(positions),
                list(positions.values()),
            )
        if group not in self._told:
            self._told[group] = _Told(group, self._address)
        self._told[group].tell(
            {TP(topic, partition): position for topic, partition, position in rows}
        )


class _Told:
    """What Kafka is told of one group, as a consumer would that is its only member."""

    def __init__(self, group: str, address: Address) -> None:
        self._group = group
        self._address = address
        self._latest: dict[TP, int] = {}
        self._consumer: Any = None
        self._assigned: set[TopicPartition] = set()
        self._telling: asyncio.Task[None] | None = None

    def tell(self, positions: Mapping[TP, int]) -> None:
        """Tell this soon."""
        self._latest |= positions
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_later())

    async def _tell_later(self) -> None:
        while self._latest:
            await asyncio.sleep(TELL_EVERY)
            await self._tell()

    async def _tell(self) -> None:
        positions, self._latest = self._latest, {}
        try:
            if self._consumer is None:
                self._consumer = await started(new_consumer(self._address, group_id=self._group))
            offsets = {TopicPartition(*tp): position for tp, position in positions.items()}
            if not offsets.keys() <= self._assigned:
                self._assigned |= offsets.keys()
                self._consumer.assign(self._assigned)
                self._consumer.pause(*self._assigned)  # it commits, and reads nothing
            await self._consumer.commit(offsets)
        except (KafkaError, TimeoutError, OSError) as error:
            # It is for people to read. What comes next says more.
            logger.debug("Kafka does not show where %s stands: %s", self._group, error)

    async def close(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait({self._telling})
        if self._latest:
            await self._tell()
        if self._consumer is not None:
            await self._consumer.stop()
