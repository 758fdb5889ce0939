"""Looking at logs without reading on in them: their bounds, and what lies at some place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from aiokafka import TopicPartition
from faust.types import TP

from redfaust.brokers.broker import Place, Record
from redfaust.brokers.kafka.clients import FETCH_WAIT, REQUEST_TIMEOUT
from redfaust.brokers.kafka.entry import as_record
from redfaust.brokers.kafka.errors import our_errors
from redfaust.brokers.kafka.store import Store
from redfaust.brokers.kafka.unreadable import UNREADABLE, readable


class LogInspector:
    """Looks with a consumer of its own."""

    def __init__(self, consumer: Any, store: Store, shown: str) -> None:
        self._consumer = consumer
        self._store = store
        self._shown = shown
        self._one_at_a_time = asyncio.Lock()

    async def bounds(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        """Per partition the oldest offset still held and the position after the newest."""
        wanted = [TopicPartition(*tp) for tp in tps]
        if not wanted:
            return {}
        with our_errors(self._shown):
            firsts, ends = await asyncio.gather(
                self._consumer.beginning_offsets(wanted), self._consumer.end_offsets(wanted)
            )
        return {TP(*tp): (firsts[tp], ends[tp]) for tp in wanted}

    async def ends(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Per partition the position after the newest."""
        wanted = [TopicPartition(*tp) for tp in tps]
        if not wanted:
            return {}
        with our_errors(self._shown):
            ends = await self._consumer.end_offsets(wanted)
        return {TP(*tp): ends[tp] for tp in wanted}

    async def places(self, tp: TP, start: int, end: int) -> dict[str, Place]:
        """How far producers have come by what lies from ``start``, which is held still, to
        ``end``."""
        found: dict[str, Place] = {}
        with our_errors(self._shown):
            async with aclosing(self._entries(tp, start, end)) as entries:
                async for record in entries:
                    if record.source is not None:
                        producer_id, number = record.source
                        last_sequence = (
                            max(number, found[producer_id].last_sequence)
                            if producer_id in found
                            else number
                        )
                        found[producer_id] = Place(last_sequence, record.offset + 1)
        return found

    async def entry(self, tp: TP, offset: int) -> Record | None:
        """What lies there; ``None`` if it was removed, but for what lies behind it."""
        with our_errors(self._shown):
            async with aclosing(self._entries(tp, offset, offset + 1)) as entries:
                return await anext(entries, None)

    async def _entries(self, tp: TP, start: int, end: int) -> AsyncGenerator[Record, None]:
        wanted = TopicPartition(*tp)
        async with self._one_at_a_time:
            self._consumer.assign([wanted])
            self._consumer.seek(wanted, start)
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    while await self._consumer.position(wanted) < end:
                        for each in await self._next(wanted, start, end):
                            if each.offset < end:
                                start = each.offset + 1
                                yield as_record(each, self._store.signer)
            finally:
                self._consumer.pause(wanted)

    async def _next(self, tp: TopicPartition, start: int, end: int) -> list[Any]:
        try:
            batches = await self._consumer.getmany(tp, timeout_ms=round(FETCH_WAIT * 1000))
        except UNREADABLE:
            entries = readable(self._consumer, tp, start, end)
            return [each async for _, each in entries if each is not None]
        return list(batches.get(tp, ()))

    async def close(self) -> None:
        """Disconnect."""
        await self._consumer.stop()
