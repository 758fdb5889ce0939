"""How the writer appends what does not go through the outbox, as somebody who knows nothing of
redfaust would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from faust.types import TP
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from redfaust.brokers.partitioner import partition_of
from redfaust.brokers.redis import keys
from tests.torture.history import NUMBER
from tests.torture.ledger import PARTITIONS, TRANSFERS
from tests.torture.on_cluster import Cluster
from tests.torture.on_kafka import Kafka
from tests.torture.plan import Transfer
from tests.torture.redis_pair import Pair

RETRY_EVERY = 0.1
"""Seconds between two attempts while a server is away."""
REPLY_TIMEOUT = 60.0
"""Seconds for a reply: longer than any fault takes, since a command that is late is still done."""


class Appending(Protocol):
    """A way onto the streams."""

    unsure: int
    """Writes whose answer was lost."""

    async def append(self, transfers: Sequence[Transfer]) -> None:
        """Append them, each once, in order per payer."""

    async def close(self) -> None:
        """Disconnect."""


def appending_to(broker: Pair | Cluster | Kafka) -> Appending:
    """The way onto the streams of these servers."""
    return ByProducer(broker) if isinstance(broker, Kafka) else ByXadd(broker)


class ByProducer:
    """By an idempotent producer, which nothing happens to."""

    unsure = 0

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._producer: Any = None

    async def append(self, transfers: Sequence[Transfer]) -> None:
        if self._producer is None:
            self._producer = AIOKafkaProducer(
                bootstrap_servers=self._kafka.bootstrap, acks="all", enable_idempotence=True
            )
            await self._producer.start()
        for transfer in transfers:
            key = transfer.payer.encode()
            await self._producer.send_and_wait(
                TRANSFERS,
                key=key,
                value=transfer.value,
                partition=partition_of(key, PARTITIONS),
                headers=[(NUMBER, str(transfer.number).encode())],
            )

    async def close(self) -> None:
        if self._producer is not None:
            await self._producer.stop()


class ByXadd:
    """By ``XADD``, to whoever is the primary."""

    def __init__(self, redis: Pair | Cluster) -> None:
        self.unsure = 0
        self._redis = redis.client(
            protocol=2,
            socket_timeout=REPLY_TIMEOUT,
            # Redis-py would repeat what may have happened.
            retry=Retry(NoBackoff(), 0),
        )
        self._last_ids = ["0-0"] * PARTITIONS
        """By partition an entry behind which everything is ours of the step in hand, or newer."""

    async def close(self) -> None:
        await self._redis.aclose()

    async def append(self, transfers: Sequence[Transfer]) -> None:
        left = list(transfers)
        while left:
            try:
                await self._try_to_append(left)
                return
            except (RedisError, OSError):
                self.unsure += 1
            there = await self._appended()
            # A pipeline that broke off was carried out up to some point.
            left = [transfer for transfer in left if transfer.number not in there]

    async def _try_to_append(self, transfers: Iterable[Transfer]) -> None:
        partitions = []
        async with self._redis.pipeline(transaction=False) as pipeline:
            for transfer in transfers:
                key = transfer.payer.encode()
                partitions.append(partition_of(key, PARTITIONS))
                pipeline.execute_command(
                    "XADD",
                    keys.stream(TP(TRANSFERS, partitions[-1])),
                    "*",
                    *("_v", transfer.value, "_k", key, f"_h:{NUMBER}", transfer.number),
                )
            ids = await pipeline.execute()
        for partition, stream_id in zip(partitions, ids, strict=True):
            self._last_ids[partition] = stream_id.decode()

    async def _appended(self) -> set[int]:
        """Numbers of what was appended since the last pipeline that was answered."""
        while True:
            try:
                return {
                    int(fields[f"_h:{NUMBER}".encode()])
                    for partition, last_id in enumerate(self._last_ids)
                    for _, fields in await self._redis.xrange(
                        keys.stream(TP(TRANSFERS, partition)), f"({last_id}", "+"
                    )
                }
            except (RedisError, OSError):
                await asyncio.sleep(RETRY_EVERY)
