"""Finds out that a log is another one than before: somebody has deleted it, or set it back.

A reader waits behind the position that it has reached. What is appended to a log that ends before
lies below, and would never be read.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from faust.types import TP

from redfaust.brokers.broker import TopicSpec
from redfaust.errors import BrokerError

if TYPE_CHECKING:
    from redfaust.transports.consumer import Consumer

LOOK_EVERY = 5.0
"""Seconds between two looks at the ends of all logs that are read."""

logger = logging.getLogger(__name__)


class LogWatch:
    """Of one consumer."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def run(self) -> None:
        """Look until the consumer is to stop."""
        while not self._consumer.should_stop:
            await self._consumer.sleep(LOOK_EVERY)
            try:
                await self._look()
            except BrokerError as error:
                logger.debug("The ends of logs are not known now: %s", error)

    async def _look(self) -> None:
        consumer = self._consumer
        # Before the ends, which grow meanwhile.
        reached = {
            tp: owned_partition.next
            for tp, owned_partition in consumer.owned_partitions.items()
            if owned_partition.may_begin
        }
        waiting = self._waiting()
        if not reached and not waiting:
            return
        await self._declare_again({tp.topic for tp in reached})
        generation = consumer.app.consumer_generation_id
        bounds = await consumer.broker.bounds([*reached, *waiting])
        if generation != consumer.app.consumer_generation_id:
            return
        other = [
            tp
            for tp, position in reached.items()
            if tp in bounds and position > bounds[tp][1] and self._is_at(tp, position)
        ]
        mended = [tp for tp in waiting if tp in bounds and tp in self._waiting()]
        if not other and not mended:
            return
        if consumer.app.client_only:
            await consumer.rebalance.listen_anew(other)
        else:
            consumer.rebalance.undo()

    async def _declare_again(self, topics: set[str]) -> None:
        """Declare topics that the broker has forgotten, as one that was emptied has."""
        consumer = self._consumer
        for topic in topics - (await consumer.broker.topics()).keys():
            if (count := consumer.topic_partitions(topic)) is not None:
                await consumer.broker.create_topic(TopicSpec(topic, count))

    def _is_at(self, tp: TP, position: int) -> bool:
        """Whether a partition is still read from there on, or further."""
        owned_partition = self._consumer.owned_partitions.get(tp)
        return owned_partition is not None and owned_partition.next >= position

    def _waiting(self) -> Collection[TP]:
        """Partitions of this worker that could not be taken, since they are no logs now."""
        return self._consumer.rebalance.blocked
