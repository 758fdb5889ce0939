"""The contract of shared delivery, kept by a consumer group with its pending entries.

Nothing here spans two streams: each partition may lie on another node. So a consumer first learns
by a blocking ``XREAD`` where there is something new, and then claims there as much as it can take.
``XREADGROUP`` on several streams would claim some of each.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import repeat

from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.broker import Record, TopicSpec
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import WRONG_TYPE, our_errors, script
from redfaust.brokers.redis.groups import Groups
from redfaust.brokers.redis.offsets import BEGINNING, offset_of, stream_id
from redfaust.brokers.redis.sequences import Entries, Sequences
from redfaust.brokers.redis.servers import Reader
from redfaust.brokers.redis.stored import wrong_type
from redfaust.brokers.redis.topics import TopicCatalog
from redfaust.brokers.share_group import CLAIM_FOR, FORGET_AFTER, Claim, Offsets
from redfaust.errors import BrokerError, BrokerUnavailable, GroupGone
from redfaust.printable import printable

AT_A_TIME = 100
"""Entries that a script goes through; Redis serves nobody else meanwhile."""

TAKE_BYTES = 16 << 20
"""Bytes of entries after which no more are claimed in one go."""

logger = logging.getLogger(__name__)


class RedisShareGroup:
    """See :class:`~redfaust.brokers.share_group.ShareGroup`."""

    def __init__(
        self,
        client: Redis,
        reader: Reader,
        sequences: Sequences,
        url: str,
        topics: TopicCatalog,
        groups: Groups,
        group: str,
        consumer: str,
        *,
        default_partitions: int,
    ) -> None:
        self._client = client
        self._url = url
        self._topics = topics
        self._groups = groups
        self._group = group
        self._consumer = consumer
        self._default_partitions = default_partitions
        self._reader = reader
        self._sequences = sequences
        self._seen: dict[TP, int] = {}
        """Positions below which somebody has taken everything."""
        self._maybe_more: deque[TP] = deque()
        """Partitions that may have something new, the next one first."""
        self._blocked: frozenset[TP] = frozenset()
        """Partitions in whose place there is something else."""
        self._is_gone = False
        """Whether the group's place is not what it was."""
        self._forget_at = 0.0
        self._claim = script(client, "streams", "claim")
        self._look = script(client, "streams", "look")
        self._claim_stale = script(client, "streams", "claim_stale")
        self._renew = script(client, "renew_claims")
        self._ack = script(client, "ack_claims")
        self._release = script(client, "release_claims")
        self._forget = script(client, "forget_consumers")

    async def join(
        self, topics: Iterable[str], *, from_start: bool, finished: Mapping[TP, int] = {}
    ) -> None:
        with our_errors(self._url):
            tps = await self._topics.expand(topics, default=self._default_partitions)
            await self._groups.join([self._group], tps, from_start=from_start, finished=finished)
        self._seen = dict.fromkeys(tps, BEGINNING)
        self._is_gone = False
        self._look_everywhere()

    def _look_everywhere(self) -> None:
        self._maybe_more = deque(tp for tp in self._seen if tp not in self._blocked)

    def _be_joined(self) -> None:
        if self._is_gone:
            raise GroupGone(
                f"the group {printable(self._group)} has lost its place: it was destroyed, or its "
                "topics were deleted and made again"
            )

    # -- new entries -------------------------------------------------------------------------

    async def claim(self, limit: int, *, wait: float) -> Sequence[Claim]:
        claims = await self._take_what_is_there(limit)
        if not claims and await self._found_news(wait):
            claims = await self._take_what_is_there(limit)
        return claims

    async def _take_what_is_there(self, limit: int) -> list[Claim]:
        self._be_joined()
        claims: list[Claim] = []
        try:
            while self._maybe_more and len(claims) < limit and _size_of(claims) < TAKE_BYTES:
                claims += await self._take_from(self._maybe_more[0], limit - len(claims))
        except BrokerError:
            self._look_everywhere()
            if not claims:
                await self._look_for_blocked()
                raise
        return claims

    async def _found_news(self, wait: float) -> bool:
        seen = {tp: at for tp, at in self._seen.items() if tp not in self._blocked}
        if not seen:  # to be joined again, or mended
            await asyncio.sleep(wait)
            return False
        try:
            with our_errors(self._url):
                news = await self._reader.read(seen, limit=1, wait=wait)
        except BrokerUnavailable:
            # What answers next may have lost what was seen here.
            self._look_everywhere()
            raise
        except BrokerError:
            await self._look_for_blocked()
            raise
        self._maybe_more.extend(news)
        return bool(news)

    async def _take_from(self, tp: TP, limit: int) -> list[Claim]:
        with our_errors(self._url):
            await self._sequences.ready()  # not once there are claims that would be lost with it
            reply = await self._claim(
                keys=[keys.stream(tp)], args=[self._group, self._consumer, limit, TAKE_BYTES]
            )
        if reply is None:
            self._is_gone = True
            self._maybe_more.clear()
            return []
        entries, last = reply
        if last is not None:
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

    async def claim_stale(self, limit: int) -> Sequence[Claim]:
        await self._forget_the_silent()
        await self._declare_again()
        ended = await self._look_at_all()
        self._be_joined()
        claims: list[Claim] = []
        for tp in ended:
            if len(claims) >= limit or _size_of(claims) >= TAKE_BYTES:
                break
            with our_errors(self._url):
                await self._sequences.ready()
                reply = await self._claim_stale(
                    keys=[keys.stream(tp)],
                    args=[
                        self._group,
                        self._consumer,
                        _milliseconds(CLAIM_FOR),
                        limit - len(claims),
                        TAKE_BYTES,
                    ],
                )
            records = await self._decode(tp, [entry for entry, _ in reply])
            deliveries = [count for (_, fields), count in reply if fields]
            claims += map(Claim, repeat(tp), records, deliveries)
        return claims

    async def _look_at_all(self) -> list[TP]:
        """Where claims have ended. Notes as well where the group has no place any more, where a log
        ends before what was seen in it, and what is blocked."""
        tps = list(self._seen)
        with our_errors(self._url):
            async with self._client.pipeline(transaction=False) as pipeline:
                for tp in tps:
                    arguments: list[str | int] = [self._group, _milliseconds(CLAIM_FOR)]
                    await self._look(keys=[keys.stream(tp)], args=arguments, client=pipeline)
                replies = await pipeline.execute(raise_on_error=False) if tps else []
            blocked, ended = set(), []
            for tp, reply in zip(tps, replies, strict=True):
                match reply:
                    case Exception() if str(reply).startswith(WRONG_TYPE):
                        blocked.add(tp)
                    case Exception():
                        raise reply
                    case [count, last] if self._seen[tp] <= max(BEGINNING, offset_of(last) + 1):
                        if count:
                            ended.append(tp)
                    case _:
                        self._is_gone = True
        self._note_blocked(frozenset(blocked))
        return ended

    async def _declare_again(self) -> None:
        """Declare topics that the catalog has forgotten, with as many partitions as before. Where
        there is no catalog that can be read, events are claimed all the same."""
        partitions = Counter(tp.topic for tp in self._seen)
        with suppress(BrokerUnavailable), our_errors(self._url):
            for topic in partitions.keys() - (await self._topics.all()).keys():
                await self._topics.create(TopicSpec(topic, partitions[topic]))

    async def _look_for_blocked(self) -> None:
        with suppress(BrokerError):
            await self._look_at_all()

    def _note_blocked(self, blocked: frozenset[TP]) -> None:
        for tp in blocked - self._blocked:
            logger.error(
                "%s waits: %s", printable(self._group), wrong_type(keys.stream(tp), "stream")
            )
        self._maybe_more = deque(tp for tp in self._maybe_more if tp not in blocked)
        self._maybe_more.extend(self._blocked - blocked)
        self._blocked = blocked

    async def finished(self) -> Mapping[TP, int]:
        with our_errors(self._url):
            floors = await self._groups.floors(self._seen, of=self._group)
            bounds = await self._groups.bounds(floors)
        # A place behind the end was in a log that is gone.
        return {tp: at for tp, at in floors.items() if tp in bounds and at <= bounds[tp][1]}

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

    async def ack(self, offsets: Offsets) -> None:
        for tp, ids in _by_stream(offsets):
            with our_errors(self._url):
                await self._ack(keys=[keys.stream(tp)], args=[self._group, self._consumer, *ids])

    async def release(self, offsets: Offsets) -> None:
        for tp, ids in _by_stream(offsets):
            with our_errors(self._url):
                await self._release(
                    keys=[keys.stream(tp)],
                    args=[self._group, self._consumer, _milliseconds(CLAIM_FOR), *ids],
                )

    async def _forget_the_silent(self) -> None:
        if time.monotonic() >= self._forget_at:
            await self._forget_consumers()
            self._forget_at = time.monotonic() + FORGET_AFTER

    async def _forget_consumers(self, *, leaving: str = "") -> None:
        with our_errors(self._url):
            async with self._client.pipeline(transaction=False) as pipeline:
                for tp in self._seen:
                    arguments: list[str | int] = [self._group, _milliseconds(FORGET_AFTER), leaving]
                    await self._forget(keys=[keys.stream(tp)], args=arguments, client=pipeline)
                replies = await pipeline.execute(raise_on_error=False) if self._seen else []
            for reply in replies:
                if isinstance(reply, Exception) and not str(reply).startswith(WRONG_TYPE):
                    raise reply

    async def close(self) -> None:
        await self._reader.close()
        with suppress(BrokerUnavailable):  # others strike it off later
            await self._forget_consumers(leaving=self._consumer)


def _size_of(claims: Iterable[Claim]) -> int:
    return sum(len(claim.record.value or b"") for claim in claims)


def _by_stream(offsets: Offsets) -> Iterable[tuple[TP, list[str]]]:
    for tp, of_tp in offsets.items():
        ids = [stream_id(offset) for offset in of_tp]
        for first in range(0, len(ids), AT_A_TIME):
            yield tp, ids[first : first + AT_A_TIME]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
