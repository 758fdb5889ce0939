"""The catalog of topics: how many partitions each has, and whether it is closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from typing import cast

from faust.types import TP
from redis.asyncio import Redis
from redis.exceptions import RedisError

from connectors.brokers.broker import TopicSpec
from connectors.brokers.names import topic_fault
from connectors.brokers.redis import keys
from connectors.errors import BrokerError, TopicClosed

KNOWN_FOR = 1.0
"""Seconds for which what was seen of a topic counts to who appends to it."""

SETTLE_FOR = 2 * KNOWN_FOR
"""Seconds after which nobody appends any more who saw a topic before it was closed."""

CLOSED = b" closed"
"""What stands behind a topic's number of partitions then."""


class TopicCatalog:
    """Topics and their numbers of partitions, which are looked up again and again."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._partitions: dict[str, int] = {}
        self._closed: set[str] = set()
        self._known_until = 0.0

    async def create(self, spec: TopicSpec) -> int:
        """Declare a topic unless it exists; returns the number of partitions that it has.

        Raises TopicClosed, and BrokerError if the topic has no proper name.
        """
        if fault := topic_fault(spec.name):
            raise BrokerError(fault)
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
        """Every topic with its number of partitions, by name."""
        found = cast("dict[bytes, bytes]", await self._client.hgetall(keys.TOPICS))
        return {name.decode(): _count(value) for name, value in sorted(found.items())}

    async def expand(self, topics: Iterable[str], *, default: int) -> list[TP]:
        """Every partition of the given topics, be they open or closed."""
        topics = list(topics)
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
        await self._client.hset(keys.TOPICS, items=items)
        self._known_until = 0.0

    async def _look_up_if_possible(self, topic: str) -> None:
        try:
            await self._look_up(self._partitions.keys() | {topic})
        except (RedisError, OSError):
            if topic not in self._partitions:
                raise
            # One node of a cluster has the catalog: it keeps nobody from the others. Nor does
            # anybody close a topic while it is away.
            self._known_until = time.monotonic() + KNOWN_FOR

    async def _look_up(self, topics: Collection[str]) -> None:
        if not topics:
            return
        asked_at = time.monotonic()
        found = await self._client.hmget(keys.TOPICS, list(topics))
        values = cast("list[bytes | None]", found)
        for topic, value in zip(topics, values, strict=True):
            self._partitions.pop(topic, None)
            self._closed.discard(topic)
            if value is not None:
                self._partitions[topic] = _count(value)
                if value.endswith(CLOSED):
                    self._closed.add(topic)
        if self._partitions.keys() <= set(topics):
            self._known_until = asked_at + KNOWN_FOR

    def _open(self, topic: str) -> int:
        if topic in self._closed:
            raise TopicClosed(topic)
        return self._partitions[topic]


def _count(value: bytes) -> int:
    return int(value.removesuffix(CLOSED))
