"""Has topics keep what they were declared with, and no more.

One keeper at a time does it for all topics of a broker, whichever application has declared them and
whether anybody reads them: of all workers and relays there, the one to which the broker grants the
lease (:meth:`~redfaust.brokers.broker.Broker.acquire_cleaner_lease`). What may go is decided by the
broker in the same instant, so the keeper need not own anything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from faust.types import TP

from redfaust.brokers.broker import Anomaly, Bound, Broker, HeldBack, Retention, Trimmed
from redfaust.brokers.capabilities import Capability
from redfaust.errors import BrokerError
from redfaust.printable import printable

EVERY = 5.0
"""Seconds between two rounds."""

LOOK_EVERY = 60.0
"""Seconds between two looks for what somebody else has put at the broker's keys: they look at each
partition of all topics."""

GOES = 100
"""How often a partition is trimmed, and compacted, in a round, at most: the next one goes on."""

logger = logging.getLogger(__name__)


class LogCleaner:
    """A process that may hold the cleaner lease."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._broker = broker
        self._name = name
        """Nobody else has it."""
        self._told: frozenset[tuple[str, frozenset[str]]] = frozenset()
        """Topics that groups hold back, by topic those groups, as the log has already said."""
        self._anomalies: frozenset[Anomaly] = frozenset()
        """Those of which the log tells already."""
        self._look_at = 0.0
        """When to look for them again, by the monotonic clock."""

    async def run(self) -> None:
        """Clean the logs until cancelled, while this process holds the lease."""
        while True:
            try:
                if await self._is_the_one():
                    await self.keep()
            except BrokerError as error:
                logger.debug("Topics are not trimmed now: %s", error)
            await asyncio.sleep(EVERY)

    async def _is_the_one(self) -> bool:
        """Of a broker that needs nobody to trim its topics, everybody says what is wrong there."""
        if Capability.RETENTION not in self._broker.capabilities:
            return True
        return await self._broker.acquire_cleaner_lease(self._name)

    async def keep(self) -> None:
        """One round. Raises what the broker raises."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            await self._tell_anomalies()
        if Capability.RETENTION in self._broker.capabilities:
            await self._delete_left()
        kept = await _kept(self._broker)
        bounded = {tp: retention for tp, retention in kept.items() if retention.is_bounded}
        trimmed = await _go_on(self._broker.trim, bounded)
        held = {tp: each.held_back for tp, each in trimmed.items() if each.held_back}
        self._tell(held, bounded)
        compacted = {tp: retention for tp, retention in kept.items() if retention.compacted}
        await _go_on(self._broker.compact, compacted)

    async def _delete_left(self) -> None:
        """Delete topics whose owner has gone without doing so."""
        now = time.time()
        left = [
            topic
            for topic, retention in (await self._broker.retentions()).items()
            if retention.until is not None and retention.until < now
        ]
        if left:
            await self._broker.delete_topics(left)

    async def _tell_anomalies(self) -> None:
        """Tell once what somebody else has put at the broker's keys, until it is gone."""
        found = frozenset(await self._broker.anomalies())
        for place, what in sorted(found - self._anomalies):
            logger.warning("%s has something that redfaust did not write: %s", place, what)
        self._anomalies = found

    def _tell(self, held: Mapping[TP, HeldBack], retentions: Mapping[TP, Retention]) -> None:
        """Tell once who holds what back, until it is so no more."""
        found = {(tp.topic, each.groups): tp for tp, each in held.items()}
        for news in found.keys() - self._told:
            tp = found[news]
            logger.warning("%s", explain(tp, held[tp], retentions[tp]))
        self._told = frozenset(found)


async def bounded_partitions(broker: Broker) -> dict[TP, Retention]:
    """The partitions of topics that have bounds which groups can hold back. Raises what the broker
    raises."""
    if Capability.RETENTION not in broker.capabilities:
        return {}
    kept = await _kept(broker)
    return {tp: retention for tp, retention in kept.items() if retention.is_bounded}


async def _kept(broker: Broker) -> dict[TP, Retention]:
    counts = await broker.topics()
    return {
        TP(topic, number): retention
        for topic, retention in (await broker.retentions()).items()
        for number in range(counts.get(topic, 0))
    }


async def _go_on(
    go: Callable[[Mapping[TP, Retention]], Awaitable[Mapping[TP, Trimmed]]],
    retentions: Mapping[TP, Retention],
) -> Mapping[TP, Trimmed]:
    """Go again where there is more to do, within bounds; what came of the last goes."""
    came: dict[TP, Trimmed] = {}
    again = retentions
    for _ in range(GOES):
        if not again:
            break
        came |= await go(again)
        again = {tp: again[tp] for tp in again if tp in came and came[tp].more}
    return came


def explain(tp: TP, held: HeldBack, retention: Retention) -> str:
    """Who holds what back, and what to do about it."""
    match held.bound:
        case Bound.AGE:
            much = f"what is {_shown(held.found)} old, and {_shown(retention.age or 0)} are wanted"
        case Bound.SIZE:
            much = f"{held.found:.0f} bytes, and {retention.size} are wanted"
        case Bound.ENTRIES:
            much = f"{held.found:.0f} entries, and {retention.entries} are wanted"
    groups = ", ".join(sorted(map(printable, held.groups)))
    return (
        f"topic {printable(tp.topic)} keeps {much} (partition {tp.partition}), since it is not "
        f"finished by {groups}: start what reads it, or, if that is gone for good, "
        "`redfaust topics forget-group NAME`"
    )


def _shown(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
