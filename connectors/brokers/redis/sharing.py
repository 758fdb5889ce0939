"""The contract of shared delivery, kept by a consumer group with its pending entries.

Nothing here spans two streams: each partition may lie on another node. So a consumer first learns
by a blocking ``XREAD`` where there is something new, and then claims there as much as it can take.
``XREADGROUP`` on several streams would claim some of each.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import repeat

from faust.types import TP
from redis.asyncio import Redis

from connectors.brokers.broker import Record
from connectors.brokers.redis import keys
from connectors.brokers.redis.client import our_errors, script
from connectors.brokers.redis.offsets import BEGINNING, offset_of, stream_id
from connectors.brokers.redis.sequences import Entries, Sequences
from connectors.brokers.redis.servers import Reader
from connectors.brokers.redis.topics import TopicCatalog
from connectors.brokers.sharing import CLAIM_FOR, FORGET_AFTER, Claim, Offsets
from connectors.errors import BrokerError, BrokerUnavailable

AT_A_TIME = 100
"""Entries that a script goes through; Redis serves nobody else meanwhile."""


class RedisSharing:
    """See :class:`~connectors.brokers.sharing.Sharing`."""

    def __init__(
        self,
        client: Redis,
        reader: Reader,
        sequences: Sequences,
        url: str,
        topics: TopicCatalog,
        group: str,
        consumer: str,
        *,
        default_partitions: int,
    ) -> None:
        self._client = client
        self._url = url
        self._topics = topics
        self._group = group
        self._consumer = consumer
        self._default_partitions = default_partitions
        self._reader = reader
        self._sequences = sequences
        self._seen: dict[TP, int] = {}
        """Positions below which somebody has taken everything."""
        self._maybe_more: deque[TP] = deque()
        """Partitions that may have something new, the next one first."""
        self._from_start = True
        self._forget_at = 0.0
        self._join = script(client, "streams", "join")
        self._take = script(client, "take")
        self._take_over = script(client, "take_over")
        self._renew = script(client, "renew_claims")
        self._settle = script(client, "settle_claims")
        self._give_back = script(client, "give_claims_back")
        self._forget = script(client, "forget_consumers")

    async def join(self, topics: Iterable[str], *, from_start: bool) -> None:
        self._from_start = from_start
        with our_errors(self._url):
            tps = await self._topics.expand(topics, default=self._default_partitions)
        for tp in tps:
            await self._join_partition(tp)
            self._seen.setdefault(tp, BEGINNING)
        self._look_everywhere()

    async def _join_partition(self, tp: TP) -> None:
        where = "start" if self._from_start else "end"
        with our_errors(self._url):
            await self._join(keys=[keys.stream(tp)], args=[self._group, where])

    def _look_everywhere(self) -> None:
        self._maybe_more = deque(self._seen)

    # -- new entries -------------------------------------------------------------------------

    async def take(self, limit: int, *, wait: float) -> Sequence[Claim]:
        claims = await self._take_what_is_there(limit)
        if not claims and await self._found_news(wait):
            claims = await self._take_what_is_there(limit)
        return claims

    async def _take_what_is_there(self, limit: int) -> list[Claim]:
        claims: list[Claim] = []
        try:
            while self._maybe_more and len(claims) < limit:
                claims += await self._take_from(self._maybe_more[0], limit - len(claims))
        except BrokerError:
            self._look_everywhere()
            if not claims:
                raise
        return claims

    async def _found_news(self, wait: float) -> bool:
        try:
            with our_errors(self._url):
                news = await self._reader.read(self._seen, limit=1, wait=wait)
        except BrokerUnavailable:
            # What answers next may have lost what was seen here.
            self._look_everywhere()
            raise
        self._maybe_more.extend(news)
        return bool(news)

    async def _take_from(self, tp: TP, limit: int) -> list[Claim]:
        with our_errors(self._url):
            await self._sequences.ready()  # not once there are claims that would be lost with it
            reply = await self._take(
                keys=[keys.stream(tp)], args=[self._group, self._consumer, limit]
            )
        if reply is None:
            await self._join_partition(tp)
            return []
        entries, last = reply
        if len(entries) < limit:
            self._maybe_more.popleft()
            self._seen[tp] = offset_of(last) + 1
        else:
            self._maybe_more.rotate(-1)
        return [Claim(tp, record, 1) for record in await self._decode(tp, entries)]

    async def _decode(self, tp: TP, entries: Entries) -> list[Record]:
        stream = keys.stream(tp).encode()
        with our_errors(self._url):
            return (await self._sequences.decode({stream: entries}))[stream]

    async def wake(self) -> None:
        self._reader.wake()

    # -- claimed entries ---------------------------------------------------------------------

    async def take_over(self, limit: int) -> Sequence[Claim]:
        await self._forget_the_silent()
        claims: list[Claim] = []
        for tp in self._seen:
            if len(claims) >= limit:
                break
            with our_errors(self._url):
                await self._sequences.ready()
                reply = await self._take_over(
                    keys=[keys.stream(tp)],
                    args=[
                        self._group,
                        self._consumer,
                        _milliseconds(CLAIM_FOR),
                        limit - len(claims),
                    ],
                )
            records = await self._decode(tp, [entry for entry, _ in reply])
            deliveries = [count for (_, fields), count in reply if fields]
            claims += map(Claim, repeat(tp), records, deliveries)
        return claims

    async def renew(self, offsets: Offsets) -> Offsets:
        lost: dict[TP, set[int]] = {}
        for tp, ids in _by_stream(offsets):
            with our_errors(self._url):
                reply = await self._renew(
                    keys=[keys.stream(tp)], args=[self._group, self._consumer, *ids]
                )
            if reply:
                lost.setdefault(tp, set()).update(map(offset_of, reply))
        return lost

    async def settle(self, offsets: Offsets) -> None:
        for tp, ids in _by_stream(offsets):
            with our_errors(self._url):
                await self._settle(keys=[keys.stream(tp)], args=[self._group, self._consumer, *ids])

    async def give_back(self, offsets: Offsets) -> None:
        for tp, ids in _by_stream(offsets):
            with our_errors(self._url):
                await self._give_back(
                    keys=[keys.stream(tp)],
                    args=[self._group, self._consumer, _milliseconds(CLAIM_FOR), *ids],
                )

    async def _forget_the_silent(self) -> None:
        if time.monotonic() < self._forget_at:
            return
        for tp in self._seen:
            await self._forget_in(tp)
        self._forget_at = time.monotonic() + FORGET_AFTER

    async def _forget_in(self, tp: TP, *, leaving: str = "") -> None:
        with our_errors(self._url):
            await self._forget(
                keys=[keys.stream(tp)],
                args=[self._group, _milliseconds(FORGET_AFTER), leaving],
            )

    async def close(self) -> None:
        await self._reader.close()
        with suppress(BrokerUnavailable):  # others strike it off later
            for tp in self._seen:
                await self._forget_in(tp, leaving=self._consumer)


def _by_stream(offsets: Offsets) -> Iterable[tuple[TP, list[str]]]:
    for tp, of_tp in offsets.items():
        ids = [stream_id(offset) for offset in of_tp]
        for first in range(0, len(ids), AT_A_TIME):
            yield tp, ids[first : first + AT_A_TIME]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
