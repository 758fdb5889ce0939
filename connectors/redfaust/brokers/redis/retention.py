"""How much is kept of topics: their retentions lie beside the catalog, and a script trims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import orjson
from faust.types import TP
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

from redfaust.brokers.broker import (
    CLEANER_LEASE,
    COMPACT_AT_ONCE,
    TRIM_AT_ONCE,
    Bound,
    HeldBack,
    Retention,
    Trimmed,
)
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import WRONG_TYPE, reading, script
from redfaust.brokers.redis.stored import Malformed, of_type, shown_name, topic_name
from redfaust.brokers.redis.stored import retention as decode_retention

_REFUSED = (WRONG_TYPE, "NOPERM")
"""What Redis says of one stream, and not of itself."""


class Retentions:
    """Those of one Redis. See :class:`~redfaust.brokers.broker.Broker`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._trim = script(client, "streams", "floor", "trim")
        self._compact = script(client, "streams", "floor", "compact")
        self._acquire_cleaner_lease = script(client, "acquire_cleaner_lease")

    async def declare(self, topic: str, retention: Retention) -> None:
        """Keep so much of a topic from now on."""
        said = orjson.dumps(asdict(retention)).decode()
        with of_type(keys.RETENTIONS, "hash"):
            await self._client.hset(keys.RETENTIONS, topic, said)

    async def forget(self, topic: str) -> None:
        """Know no more how much is kept of a topic."""
        await self._client.hdel(keys.RETENTIONS, topic)

    async def all(self) -> dict[str, Retention]:
        """By topic; those without are missing."""
        retentions, _ = await self.read()
        return retentions

    async def read(self) -> tuple[dict[str, Retention], list[str]]:
        """The retentions, and what is wrong about what else stands there."""
        with of_type(keys.RETENTIONS, "hash"):
            found = cast("dict[bytes, bytes]", await self._client.hgetall(keys.RETENTIONS))
        retentions: dict[str, Retention] = {}
        wrong = []
        for name, value in sorted(found.items()):
            try:
                topic = topic_name(name)
                retentions[topic] = decode_retention(topic, value)
            except Malformed as error:
                wrong.append(str(error))
        return retentions, wrong

    async def acquire_cleaner_lease(self, keeper: str) -> bool:
        """Whether this one does."""
        return bool(
            await self._acquire_cleaner_lease(
                keys=[keys.CLEANER], args=[keeper, _milliseconds(CLEANER_LEASE)]
            )
        )

    async def trim(self, retentions: Mapping[TP, Retention]) -> dict[TP, Trimmed]:
        """Trim, and tell what is held back."""
        return await self._look(retentions, TRIM_AT_ONCE)

    async def held_back(self, retentions: Mapping[TP, Retention]) -> dict[TP, HeldBack]:
        """Only tell it."""
        found = await self._look(retentions, 0)
        return {tp: each.held_back for tp, each in found.items() if each.held_back is not None}

    async def compact(self, retentions: Mapping[TP, Retention]) -> dict[TP, Trimmed]:
        """Compact those that are to be."""
        calls = {
            tp: (
                [keys.stream(tp), keys.known(tp)],
                [_milliseconds(retention.deletions), COMPACT_AT_ONCE, int(retention.is_bounded)],
            )
            for tp, retention in retentions.items()
            if retention.compacted
        }
        return await self._call(self._compact, calls)

    async def _look(self, retentions: Mapping[TP, Retention], limit: int) -> dict[TP, Trimmed]:
        calls = {
            tp: ([keys.stream(tp)], [*_bounds(retention), limit])
            for tp, retention in retentions.items()
        }
        return await self._call(self._trim, calls, read_only=not limit)

    async def _call(
        self,
        script: AsyncScript,
        calls: Mapping[TP, tuple[list[str], list[int]]],
        *,
        read_only: bool = False,
    ) -> dict[TP, Trimmed]:
        if not calls:
            return {}
        async with self._client.pipeline(transaction=False) as pipeline:
            for of_call, arguments in calls.values():
                if read_only:
                    pipeline.execute_command(*reading(script, of_call, *arguments))
                else:
                    await script(keys=of_call, args=arguments, client=pipeline)
            replies = await pipeline.execute(raise_on_error=False)
        trimmed = {}
        for tp, reply in zip(calls, replies, strict=True):
            if isinstance(reply, ResponseError) and any(code in str(reply) for code in _REFUSED):
                continue
            if isinstance(reply, Exception):
                raise reply
            trimmed[tp] = _trimmed(*reply)
        return trimmed


def _bounds(retention: Retention) -> list[int]:
    age = -1 if retention.age is None else _milliseconds(retention.age)
    others = (retention.size, retention.entries)
    return [age, *(-1 if bound is None else bound for bound in others)]


def _trimmed(
    removed: int, more: int, bound: bytes = b"", found: bytes = b"", *groups: Any
) -> Trimmed:
    held_back = None
    if bound:
        kind = Bound(bound.decode())
        amount = int(found) / 1000 if kind is Bound.AGE else int(found)
        held_back = HeldBack(frozenset(map(shown_name, groups)), kind, amount)
    return Trimmed(removed, bool(more), held_back)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
