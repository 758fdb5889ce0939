"""The good traffic: numbered events under keys of its own, by each way that leads to a topic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Protocol

from redfaust.brokers.partitioner import partition_of
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database
from tests.fuzz.ledger import GOOD_KEYS, NOTICES, PARTITIONS, PAYMENTS, Payment, amount_of

BATCH = 6
"""Events of one key that are sent in one go."""


class Appending(Protocol):
    """How a foreign producer appends to the broker."""

    async def append(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Append one event."""


class GoodTraffic:
    """Sends, and remembers how many events of each key have been sent."""

    def __init__(self, seed: int, appending: Appending, database: Database) -> None:
        self._choose = Random(f"good {seed}")
        self._appending = appending
        self._outbox = Outbox(database)
        self._database = database
        self.sent: Counter[tuple[str, str]] = Counter()
        """By topic and key."""

    async def send_some(self) -> None:
        """Send a few events of one key. All events of a key go the same way, so that they keep an
        order."""
        place = self._choose.randrange(len(GOOD_KEYS))
        topic = self._choose.choice((PAYMENTS, PAYMENTS, NOTICES))
        key = GOOD_KEYS[place]
        first = self.sent[topic, key] + 1
        payments = [
            Payment(number=number, amount=amount_of(number))
            for number in range(first, first + BATCH)
        ]
        ways = (self._append, self._publish, self._publish_by_sql)
        await ways[place % len(ways)](topic, key, payments)
        self.sent[topic, key] += BATCH

    async def _append(self, topic: str, key: str, payments: Sequence[Payment]) -> None:
        partition = partition_of(key.encode(), PARTITIONS)
        for payment in payments:
            value = payment.model_dump_json().encode()
            await self._appending.append(topic, partition, key.encode(), value)

    async def _publish(self, topic: str, key: str, payments: Sequence[Payment]) -> None:
        async with self._outbox.transaction() as tx:
            for payment in payments:
                await tx.publish(topic, payment.model_dump_json().encode(), key=key)

    async def _publish_by_sql(self, topic: str, key: str, payments: Sequence[Payment]) -> None:
        async with self._database.transaction() as connection:
            for payment in payments:
                await connection.execute(
                    "SELECT redfaust.publish($1, $2, $3)", topic, key, payment.model_dump()
                )
