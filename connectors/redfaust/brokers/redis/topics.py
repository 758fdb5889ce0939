"""The catalog of topics: how many partitions each has, and whether it is closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from typing import cast

from faust.types import TP
from redis.asyncio import Redis
from redis.exceptions import RedisError

from redfaust.brokers.broker import MAX_PARTITIONS, TopicSpec
from redfaust.brokers.names import topic_fault
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.stored import (
    CLOSED,
    CatalogEntry,
    Malformed,
    catalog_entry,
    of_type,
    topic_name,
)
from redfaust.errors import BrokerError, BrokerUnavailable, TopicClosed
from redfaust.printable import printable

KNOWN_FOR = 1.0
"""Seconds for which what was seen of a topic counts to who appends to it."""

SETTLE_FOR = 2 * KNOWN_FOR
"""Seconds after which nobody appends any more who saw a topic before it was closed."""


class TopicCatalog:
    """Topics and their numbers of partitions, which are looked up again and again."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._partitions: dict[str, int] = {}
        self._closed: set[str] = set()
        self._wrong: dict[str, str] = {}
        """By topic, what is wrong about its entry."""
        self._known_until = 0.0

    async def create(self, spec: TopicSpec) -> int:
        """Declare a topic unless it exists; returns the number of partitions that it has.

        Raises TopicClosed, and BrokerError if the topic has no proper name.
        """
        if fault := topic_fault(spec.name):
            raise BrokerError(fault)
        if not 1 <= spec.partitions <= MAX_PARTITIONS:
            raise BrokerError(
                f"topic {printable(spec.name)} is declared with {spec.partitions} partitions: "
                f"declare 1 to {MAX_PARTITIONS}"
            )
        with of_type(keys.TOPICS, "hash"):
            await self._client.hsetnx(keys.TOPICS, spec.name, str(spec.partitions))
        await self._look_up({spec.name})
        return self._open(spec.name)

    async def partitions(self, topic: str, *, default: int) -> int:
        """Number of partitions of a topic, which is declared with ``default`` if unknown.

        Raises TopicClosed.
        """
        if time.monotonic() >= self._known_until:
            await self._look_up_if_possible(topic)
        if topic not in self._partitions:
            return await self.create(TopicSpec(topic, default))
        return self._open(topic)

    async def all(self) -> dict[str, int]:
        """Every topic with its number of partitions, by name. What is none is left out."""
        entries, _ = await self.read()
        return {name: entry.partitions for name, entry in sorted(entries.items())}

    async def read(self) -> tuple[dict[str, CatalogEntry], list[str]]:
        """The whole catalog, and what is wrong about what else stands there."""
        with of_type(keys.TOPICS, "hash"):
            found = cast("dict[bytes, bytes]", await self._client.hgetall(keys.TOPICS))
        entries: dict[str, CatalogEntry] = {}
        wrong = []
        for name, value in sorted(found.items()):
            try:
                topic = topic_name(name)
                entries[topic] = catalog_entry(topic, value)
            except Malformed as error:
                wrong.append(str(error))
        return entries, wrong

    async def known(self, topics: Iterable[str]) -> list[TP]:
        """Every partition of those of these topics that are declared."""
        topics = list(dict.fromkeys(topics))
        await self._look_up(topics)
        return [
            TP(topic, number)
            for topic in topics
            for number in range(self._partitions.get(topic, 0))
        ]

    async def expand(self, topics: Iterable[str], *, default: int) -> list[TP]:
        """Every partition of the given topics, be they open or closed."""
        topics = list(dict.fromkeys(topics))
        await self._look_up(topics)
        for topic in topics:
            if topic not in self._partitions:
                await self.create(TopicSpec(topic, default))
        return [TP(topic, number) for topic in topics for number in range(self._partitions[topic])]

    async def close(self, topics: Collection[str]) -> None:
        """Close topics, and wait until everybody has seen it."""
        found = await self.all()
        await self._set({topic: b"%d%b" % (found[topic], CLOSED) for topic in topics})
        await asyncio.sleep(SETTLE_FOR)

    async def delete(self, topics: Collection[str]) -> None:
        """Forget topics."""
        for topic in topics:
            await self._client.hdel(keys.TOPICS, topic)
            self._partitions.pop(topic, None)
            self._closed.discard(topic)

    async def open(self, partitions: Mapping[str, int]) -> None:
        """Open topics, with so many partitions."""
        await self._set({topic: b"%d" % count for topic, count in partitions.items()})

    async def _set(self, values: Mapping[str, bytes]) -> None:
        items = [part for item in values.items() for part in item]
        with of_type(keys.TOPICS, "hash"):
            await self._client.hset(keys.TOPICS, items=items)
        self._known_until = 0.0

    async def _look_up_if_possible(self, topic: str) -> None:
        try:
            await self._look_up(self._partitions.keys() | {topic})
        except (RedisError, OSError, BrokerUnavailable):
            if topic not in self._partitions:
                raise
            # One node of a cluster has the catalog: it keeps nobody from the others. Nor does
            # anybody close a topic while it is away.
            self._known_until = time.monotonic() + KNOWN_FOR

    async def _look_up(self, topics: Collection[str]) -> None:
        if not topics:
            return
        asked_at = time.monotonic()
        with of_type(keys.TOPICS, "hash"):
            found = await self._client.hmget(keys.TOPICS, list(topics))
        values = cast("list[bytes | None]", found)
        for topic, value in zip(topics, values, strict=True):
            self._note(topic, value)
        if self._partitions.keys() <= set(topics):
            self._known_until = asked_at + KNOWN_FOR

    def _note(self, topic: str, value: bytes | None) -> None:
        if value is None:
            self._partitions.pop(topic, None)
            self._closed.discard(topic)
            self._wrong.pop(topic, None)
            return
        try:
            entry = catalog_entry(topic, value)
        except Malformed as error:
            # What was known goes on; who knows nothing of the topic has to wait.
            self._wrong[topic] = str(error)
            return
        self._wrong.pop(topic, None)
        self._partitions[topic] = entry.partitions
        if entry.is_closed:
            self._closed.add(topic)
        else:
            self._closed.discard(topic)

    def _open(self, topic: str) -> int:
        if topic in self._closed:
            raise TopicClosed(topic)
        if topic not in self._partitions:
            raise BrokerUnavailable(
                f"{keys.TOPICS} cannot be used: {self._wrong.get(topic, topic)}"
            )
        return self._partitions[topic]
