"""The catalog of topics: how many partitions each has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from faust.types import TP
from redis.asyncio import Redis

from connectors.transports.broker import TopicSpec
from connectors.transports.redis import keys


class TopicCatalog:
    """Topics and their numbers of partitions, remembered once seen since they never change."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._partitions: dict[str, int] = {}

    async def create(self, spec: TopicSpec) -> int:
        """Declare a topic unless it exists; returns the number of partitions that it has."""
        await self._client.hsetnx(keys.TOPICS, spec.name, str(spec.partitions))
        return await self._look_up(spec.name) or spec.partitions

    async def partitions(self, topic: str, *, default: int) -> int:
        """Number of partitions of a topic, which is declared with ``default`` if unknown."""
        known = self._partitions.get(topic) or await self._look_up(topic)
        return known or await self.create(TopicSpec(topic, default))

    async def all(self) -> dict[str, int]:
        """Every topic with its number of partitions, by name."""
        found = cast("dict[bytes, bytes]", await self._client.hgetall(keys.TOPICS))
        self._partitions.update({name.decode(): int(count) for name, count in found.items()})
        return dict(sorted(self._partitions.items()))

    async def expand(self, topics: Iterable[str], *, default: int) -> list[TP]:
        """Every partition of the given topics."""
        return [
            TP(topic, partition)
            for topic in topics
            for partition in range(await self.partitions(topic, default=default))
        ]

    async def _look_up(self, topic: str) -> int | None:
        count = await self._client.hget(keys.TOPICS, topic)
        if count is None:
            return None
        self._partitions[topic] = int(count)
        return self._partitions[topic]
