"""The contract of shared delivery, kept in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, MutableSet, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from faust.types import TP

from redfaust.brokers.memory.records import Records
from redfaust.brokers.share_group import CLAIM_FOR, Claim, Offsets

_LONG_AGO = float("-inf")


@dataclass
class Claimed:
    """An entry in somebody's hand."""

    consumer: str
    deliveries: int
    renewed_at: float
    """By the monotonic clock."""


@dataclass
class SharedPlace:
    """A shared group in one partition."""

    position: int
    """Everything below has been taken."""
    claimed: dict[int, Claimed] = field(default_factory=dict)

    @property
    def floor(self) -> int:
        """Everything below is settled."""
        return min(self.claimed, default=self.position)


class MemoryShareGroup:
    """See :class:`~redfaust.brokers.share_group.ShareGroup`."""

    def __init__(
        self,
        places: dict[tuple[str, TP], SharedPlace],
        records: Mapping[TP, Records],
        readers: MutableSet[asyncio.Event],
        group: str,
        consumer: str,
        expand: Callable[[Iterable[str]], Sequence[TP]],
    ) -> None:
        self._all_places = places
        self._records = records
        self._readers = readers
        self._group = group
        self._consumer = consumer
        self._expand = expand
        self._news = asyncio.Event()
        self._tps: list[TP] = []

    async def join(
        self, topics: Iterable[str], *, from_start: bool, finished: Mapping[TP, int] = {}
    ) -> None:
        self._tps = list(self._expand(topics))
        for tp in self._tps:
            records = self._records[tp]
            start = records.first if from_start else records.end
            if finished.get(tp, start) <= records.end:
                start = finished.get(tp, start)
            self._all_places.setdefault((self._group, tp), SharedPlace(start))
        self._readers.add(self._news)

    def _place(self, tp: TP) -> SharedPlace:
        return self._all_places[self._group, tp]

    async def claim(self, limit: int, *, wait: float) -> Sequence[Claim]:
        self._news.clear()
        if (claims := self._claim(limit)) or wait <= 0:
            return claims
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._news.wait()
        return self._claim(limit)

    def _claim(self, limit: int) -> list[Claim]:
        claims: list[Claim] = []
        for tp in self._tps:
            place = self._place(tp)
            records = self._records[tp].read(place.position, limit - len(claims))
            for record in records:
                place.position = record.offset + 1
                place.claimed[record.offset] = Claimed(self._consumer, 1, time.monotonic())
            claims += [Claim(tp, record, 1) for record in records]
        self._tps = self._tps[1:] + self._tps[:1]
        return claims

    async def wake(self) -> None:
        self._news.set()

    async def claim_stale(self, limit: int) -> Sequence[Claim]:
        now = time.monotonic()
        claims: list[Claim] = []
        for tp in self._tps:
            for offset, claimed in sorted(self._place(tp).claimed.items()):
                if now - claimed.renewed_at >= CLAIM_FOR and len(claims) < limit:
                    claimed.consumer, claimed.renewed_at = self._consumer, now
                    claimed.deliveries += 1
                    record = self._records[tp].get(offset)
                    assert record is not None  # what is claimed is kept
                    claims.append(Claim(tp, record, claimed.deliveries))
        return claims

    async def finished(self) -> Mapping[TP, int]:
        return {tp: self._place(tp).floor for tp in self._tps}

    async def renew(self, offsets: Offsets) -> Offsets:
        lost: dict[TP, set[int]] = {}
        for tp, of_tp in offsets.items():
            for offset in of_tp:
                claimed = self._place(tp).claimed.get(offset)
                if claimed is not None and claimed.consumer == self._consumer:
                    claimed.renewed_at = time.monotonic()
                else:
                    lost.setdefault(tp, set()).add(offset)
        return lost

    async def ack(self, offsets: Offsets) -> None:
        for tp, offset, claimed in self._claimed(offsets):
            if claimed.consumer == self._consumer:
                del self._place(tp).claimed[offset]

    async def release(self, offsets: Offsets) -> None:
        for _, _, claimed in self._claimed(offsets):
            if claimed.consumer == self._consumer:
                claimed.renewed_at = _LONG_AGO
                claimed.deliveries -= 1

    def _claimed(self, offsets: Offsets) -> list[tuple[TP, int, Claimed]]:
        return [
            (tp, offset, claimed)
            for tp, of_tp in offsets.items()
            for offset in of_tp
            if (claimed := self._place(tp).claimed.get(offset)) is not None
        ]

    async def close(self) -> None:
        self._readers.discard(self._news)
        self._news.set()
