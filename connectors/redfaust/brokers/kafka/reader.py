"""Reading from positions, by a consumer that goes on by itself.

Kafka's consumer has a position of its own in each partition, and fetches ahead of it. So it is told
where to go only where somebody wants to read from elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from faust.types import TP

from redfaust.brokers.broker import OffsetOutOfRange, Record
from redfaust.brokers.kafka.clients import REQUEST_TIMEOUT
from redfaust.brokers.kafka.entry import as_record
from redfaust.brokers.kafka.errors import our_errors
from redfaust.brokers.kafka.log_inspector import LogInspector
from redfaust.brokers.kafka.store import Store
from redfaust.brokers.kafka.unreadable import UNREADABLE, readable

CAREFULLY_FOR = 2.0
"""Seconds after which a read that goes from entry to entry gives what it has found."""

logger = logging.getLogger(__name__)


class LogReader:
    """Reads all partitions that are asked for, with one consumer."""

    def __init__(
        self, consumer: Any, log_inspector: LogInspector, store: Store, shown: str
    ) -> None:
        self._consumer = consumer
        self._shown = shown
        self._log_inspector = log_inspector
        self._store = store
        self._next: dict[TP, int] = {}
        """By assigned partition, what a reader who goes on will ask for. The consumer may be
        further: where entries are missing it has passed the gap."""
        self._passed: dict[TP, tuple[int, int]] = {}
        """By partition, a position behind which nothing can be read, and where that ends."""
        self._has_taken = False
        """Whether the consumer has handed out in this read what nobody has yet."""
        self._paused: frozenset[TP] = frozenset()
        self._waiting: asyncio.Task[dict[TP, list[Record]]] | None = None

    async def read(
        self, positions: Mapping[TP, int], *, limit: int, wait: float
    ) -> Mapping[TP, Sequence[Record]]:
        """See :meth:`~redfaust.brokers.broker.Broker.read`.

        What retention has removed is passed over. Raises OffsetOutOfRange where a log ends before
        the position.
        """
        self._waiting = asyncio.create_task(self._read(positions, limit, wait))
        try:
            with our_errors(self._shown):
                return await self._waiting
        except asyncio.CancelledError:
            is_woken = self._waiting.cancelled() and not _cancelled_ourselves()
            if self._has_taken or not is_woken:
                self._next.clear()  # it may have read what nobody gets
            if is_woken:
                return {}
            raise
        finally:
            self._waiting.cancel()
            self._waiting = None

    def wake(self) -> None:
        """Make a waiting read return at once. What it would have read, the next one reads."""
        if self._waiting is not None:
            self._waiting.cancel()

    async def close(self) -> None:
        """Disconnect."""
        self.wake()
        await self._consumer.stop()

    async def _read(
        self, positions: Mapping[TP, int], limit: int, wait: float
    ) -> dict[TP, list[Record]]:
        self._go_to(positions)
        self._has_taken = False
        try:
            if wait > 0:
                found = await self._get(positions, limit, wait)
                for tp in positions:
                    if len(found.get(tp, ())) < limit:
                        await self._get_more(found, tp, limit, 0)
            else:
                found = await self._get_what_is_there(positions, limit)
        except OffsetOutOfRangeError as error:
            await self._find_the_way([TP(*tp) for tp in error.args[0]])
            return {}
        except UNREADABLE:
            self._next.clear()  # whatever the consumer has taken, it is told where to go on
            return await self._get_what_is_readable(positions, limit)
        self._next |= {tp: records[-1].offset + 1 for tp, records in found.items()}
        return found

    async def _get(self, tps: Collection[TP], limit: int, wait: float) -> dict[TP, list[Record]]:
        batches = await self._consumer.getmany(
            *(TopicPartition(*tp) for tp in tps),
            timeout_ms=round(wait * 1000),
            max_records=limit,
        )
        self._has_taken = self._has_taken or bool(batches)
        signer = self._store.signer
        return {
            TP(*tp): [as_record(each, signer) for each in batch] for tp, batch in batches.items()
        }

    async def _get_more(
        self, found: dict[TP, list[Record]], tp: TP, limit: int, wait: float
    ) -> None:
        so_far = found.get(tp, [])
        more = await self._get([tp], limit - len(so_far), wait)
        if more:
            found[tp] = so_far + more[tp]

    async def _get_what_is_there(
        self, positions: Mapping[TP, int], limit: int
    ) -> dict[TP, list[Record]]:
        """Without waiting for news, but for what Kafka has already."""
        found: dict[TP, list[Record]] = {}
        bounds = await self._log_inspector.bounds(positions)
        async with asyncio.timeout(REQUEST_TIMEOUT):
            for tp in positions:
                _, end = bounds[tp]
                while len(found.get(tp, ())) < limit and await self._position(tp) < end:
                    await self._get_more(found, tp, limit, REQUEST_TIMEOUT)
        return found

    async def _get_what_is_readable(
        self, positions: Mapping[TP, int], limit: int
    ) -> dict[TP, list[Record]]:
        """The same, but for what cannot be read. It may be no more than a part."""
        found: dict[TP, list[Record]] = {}
        bounds = await self._log_inspector.bounds(positions)
        until = time.monotonic() + CAREFULLY_FOR
        for tp, position in positions.items():
            first, end = bounds[tp]
            start = max(first, self._begin(tp, position))
            entries = readable(self._consumer, TopicPartition(*tp), start, end)
            async with aclosing(entries):
                async for behind, each in entries:
                    if each is not None:
                        found.setdefault(tp, []).append(as_record(each, self._store.signer))
                    elif tp not in found:
                        self._passed[tp] = (position, behind)
                    if len(found.get(tp, ())) >= limit or time.monotonic() > until:
                        break
        return found

    def _begin(self, tp: TP, position: int) -> int:
        """Where to read from a position on: behind what cannot be read."""
        asked, behind = self._passed.get(tp, (position, position))
        return behind if asked == position else position

    async def _position(self, tp: TP) -> int:
        return int(await self._consumer.position(TopicPartition(*tp)))

    def _go_to(self, positions: Mapping[TP, int]) -> None:
        """Have the consumer fetch from there, and from nowhere else."""
        if not positions.keys() <= self._next.keys():
            self._consumer.assign([TopicPartition(*tp) for tp in positions])
            self._next, self._paused = {}, frozenset()
        for tp, position in positions.items():
            if self._next.get(tp) != position:
                self._consumer.seek(TopicPartition(*tp), self._begin(tp, position))
                self._next[tp] = position
        paused = frozenset(self._next.keys() - positions.keys())
        if paused != self._paused:
            self._consumer.resume(*(TopicPartition(*tp) for tp in self._paused - paused))
            self._consumer.pause(*(TopicPartition(*tp) for tp in paused - self._paused))
            self._paused = paused

    async def _find_the_way(self, tps: Collection[TP]) -> None:
        """Go on at the oldest entry where that lies behind a position."""
        for tp, (first, end) in (await self._log_inspector.bounds(tps)).items():
            position = self._next.get(tp)
            if position is None:
                continue
            if position > end:
                del self._next[tp]
                raise OffsetOutOfRange(
                    f"partition {tp.partition} of {tp.topic} ends at {end}, before the position "
                    f"{position} that was reached in it: entries were lost, or the topic was "
                    "deleted and made again"
                )
            logger.warning(
                "Kafka has removed what was not read yet of partition %s of %s, from %s to %s: its "
                "retention is shorter than this application's lag",
                tp.partition,
                tp.topic,
                position,
                first,
            )
            # Whoever asks for the position again means this one.
            self._consumer.seek(TopicPartition(*tp), first)


def _cancelled_ourselves() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
