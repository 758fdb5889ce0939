"""The catalog of topics: Kafka's, and which of them are closed."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Collection, Iterable, Mapping

from faust.types import TP

from redfaust.brokers import outgoing
from redfaust.brokers.broker import Outgoing, Retention, TopicSpec
from redfaust.brokers.kafka.clients import Admin
from redfaust.brokers.kafka.store import Store, query
from redfaust.brokers.names import topic_fault
from redfaust.errors import BrokerError, BrokerUnavailable, TopicClosed

KNOWN_FOR = 1.0
"""Seconds for which what was seen of a topic counts to who appends to it."""

SETTLE_FOR = 2 * KNOWN_FOR
"""Seconds after which nobody appends any more who saw a topic before it was closed."""

CREATED_WITHIN = 5.0
"""Seconds in which the cluster shows a topic that it has created."""
LOOK_AGAIN = 0.05

UNBOUNDED = -1

_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]+")

logger = logging.getLogger(__name__)


class TopicCatalog:
    """Topics and their numbers of partitions, which are looked up again and again."""

    def __init__(self, admin: Admin, store: Store) -> None:
        self._admin = admin
        self._store = store
        self._partitions: Mapping[str, int] = {}
        self._closed: frozenset[str] = frozenset()
        self._known_until = 0.0

    async def create(self, spec: TopicSpec) -> int:
        """Declare a topic unless it exists; returns the number of partitions that it has.

        Raises TopicClosed, and BrokerError if the topic has no proper name.
        """
        if fault := name_fault(spec.name):
            raise BrokerError(fault)
        await self._look_up()
        if spec.name not in self._partitions:
            await self._admin.create_topic(spec, configuration(spec.retention or Retention()))
            await self._appeared(spec.name)
        elif spec.retention is not None:
            logger.info("Of topic %s Kafka keeps what it is configured to keep there", spec.name)
        if spec.retention is not None and spec.retention.entries is not None:
            logger.warning("Of topic %s Kafka cannot keep a number of entries", spec.name)
        return self._open(spec.name)

    async def delete(self, topics: Collection[str]) -> None:
        """Delete those that exist."""
        await self._look_up()
        if there := [topic for topic in topics if topic in self._partitions]:
            await self._admin.delete_topics(there)
            await self._look_up()

    async def _appeared(self, topic: str) -> None:
        give_up_at = time.monotonic() + CREATED_WITHIN
        while True:
            await self._look_up()
            if topic in self._partitions:
                return
            if time.monotonic() > give_up_at:
                raise BrokerUnavailable(f"Kafka does not show topic {topic} yet: try again")
            await asyncio.sleep(LOOK_AGAIN)

    async def partitions(self, topic: str, *, default: int) -> int:
        """Number of partitions of a topic, which is declared with ``default`` if unknown.

        Raises TopicClosed.
        """
        if time.monotonic() >= self._known_until:
            await self._look_up_if_possible(topic)
        if topic not in self._partitions:
            return await self.create(TopicSpec(topic, default))
        return self._open(topic)

    async def all(self) -> Mapping[str, int]:
        """Every topic with its number of partitions, by name."""
        await self._look_up()
        return self._partitions

    async def expand(self, topics: Iterable[str], *, default: int) -> list[TP]:
        """Every partition of the given topics, be they open or closed."""
        topics = list(topics)
        await self._look_up()
        for topic in topics:
            if topic not in self._partitions:
                await self.create(TopicSpec(topic, default))
        return [TP(topic, number) for topic in topics for number in range(self._partitions[topic])]

    async def known(self, tps: Iterable[TP]) -> list[TP]:
        """Those of these partitions that there are."""
        await self._look_up()
        return [tp for tp in tps if tp.partition < self._partitions.get(tp.topic, 0)]

    async def close(self, topics: Collection[str]) -> None:
        """Close topics, and wait until everybody has seen it."""
        async with self._store.transaction() as connection:
            await connection.execute(query("close_topics"), self._store.log, list(topics))
        self._known_until = 0.0
        await asyncio.sleep(SETTLE_FOR)

    async def add_partitions(self, partitions: Mapping[str, int]) -> list[TP]:
        """Give topics so many partitions; returns all those that they have then."""
        await self._look_up()
        more = {
            topic: count for topic, count in partitions.items() if count > self._partitions[topic]
        }
        if more:
            await self._admin.add_partitions(more)
        return [TP(topic, number) for topic, count in partitions.items() for number in range(count)]

    async def open(self, topics: Collection[str]) -> None:
        """Open topics."""
        async with self._store.transaction() as connection:
            await connection.execute(query("open_topics"), self._store.log, list(topics))
        self._known_until = 0.0

    async def _look_up_if_possible(self, topic: str) -> None:
        try:
            await self._look_up()
        except BrokerUnavailable:
            if topic not in self._partitions:
                raise
            # Nobody closes a topic while the database is away.
            self._known_until = time.monotonic() + KNOWN_FOR

    async def _look_up(self) -> None:
        asked_at = time.monotonic()
        self._partitions = await self._admin.topics()
        async with self._store.transaction() as connection:
            rows = await connection.fetch(query("select_closed"), self._store.log)
        self._closed = frozenset(topic for (topic,) in rows)
        self._known_until = asked_at + KNOWN_FOR

    def _open(self, topic: str) -> int:
        if topic in self._closed:
            raise TopicClosed(topic)
        return self._partitions[topic]


def configuration(retention: Retention) -> dict[str, str]:
    """How Kafka is told what a new topic keeps. It is Kafka's to change then.

    Without bounds nothing is removed, as on other brokers; of entries Kafka keeps no number.
    """
    policies = ["compact"] if retention.compacted else []
    if retention.is_bounded or not policies:
        policies.append("delete")
    age = UNBOUNDED if retention.age is None else round(retention.age * 1000)
    size = UNBOUNDED if retention.size is None else retention.size
    return {
        "cleanup.policy": ",".join(policies),
        "retention.ms": str(age),
        "retention.bytes": str(size),
        "delete.retention.ms": str(round(retention.deletions * 1000)),
    }


def name_fault(topic: str) -> str | None:
    """Say what is wrong with a topic's name, here; ``None`` if nothing is."""
    if (fault := topic_fault(topic)) or _NAME.fullmatch(topic):
        return fault
    return f"Kafka has no topic {topic}: name topics by letters, digits, dots, - and _"


def refusal_of(entry: Outgoing, partitions: Mapping[str, int]) -> BrokerError | None:
    """Why an entry cannot be appended, if it cannot. ``partitions`` are those of all topics that
    have a proper name."""
    if entry.topic not in partitions and (fault := name_fault(entry.topic)):
        return BrokerError(fault)
    return outgoing.refusal_of(entry, partitions)
