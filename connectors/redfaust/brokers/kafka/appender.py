"""Appending entries, in batches that each lie in one partition.

A batch is there as a whole or not at all. An idempotent producer repeats one whose answer was lost
without its being there twice; after an error that leaves its fate open, a new producer begins.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP

from redfaust.brokers.broker import Outgoing
from redfaust.brokers.kafka.address import Address
from redfaust.brokers.kafka.clients import common, started
from redfaust.brokers.kafka.errors import NOT_ALLOWED, REFUSED, TOO_LARGE, our_errors
from redfaust.brokers.names import header_name
from redfaust.errors import BrokerError

BATCH_BYTES = 1 << 20
"""Bytes of a batch. A topic takes as much, unless it is configured otherwise."""


class Put(NamedTuple):
    """What came of a batch."""

    first: int
    """The offset of its first entry."""
    end: int
    """The one behind its last entry: theirs follow each other."""
    timestamp: float
    """Seconds since the epoch, by this clock."""


class EntryRefused(BrokerError):
    """The first entry is not taken, and will not be."""


class LogClosed(BrokerError):
    """The partition takes nothing from this user of Kafka, until somebody changes that."""


class Appender:
    """Appends with one producer at a time."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._producer: Any = None
        self._in_doubt = False
        self._one_at_a_time = asyncio.Lock()

    async def settled(self) -> None:
        """Wait until what became of all former batches is known or past."""
        with our_errors(self._address.shown):
            await self._settled()

    async def _settled(self) -> Any:
        async with self._one_at_a_time:
            if self._in_doubt and self._producer is not None:
                await self.close()
            if self._producer is None:
                self._producer = await started(
                    AIOKafkaProducer(
                        **common(self._address),
                        acks="all",
                        enable_idempotence=True,
                        max_batch_size=BATCH_BYTES,
                    )
                )
                self._in_doubt = False
            return self._producer

    async def close(self) -> None:
        """Disconnect when what is on its way has its answer, or has had its time."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def put(self, tp: TP, entries: Sequence[Outgoing]) -> Put:
        """Append as many of these entries as go into a batch, the first of them at least.

        Raises EntryRefused or LogClosed; after any other BrokerError it is unknown whether they are
        there.
        """
        with our_errors(self._address.shown):
            return await self._put(tp, entries)

    async def _put(self, tp: TP, entries: Sequence[Outgoing]) -> Put:
        limit = len(entries)
        while True:
            producer = await self._settled()
            batch = producer.create_batch()
            for entry in entries[:limit]:
                if not _fits(batch, entry):
                    break
            count = batch.record_count()
            try:
                stored = await self._sent(self._send(producer, batch, tp))
            except TOO_LARGE as error:
                if count == 1:
                    raise _refused(tp, error) from error
                limit = count // 2
                continue
            except NOT_ALLOWED as error:
                raise LogClosed(
                    f"Kafka lets nobody write to {tp.topic} who logs in like this: "
                    "grant it the right to"
                ) from error
            except REFUSED as error:
                if count == 1:
                    raise _refused(tp, error) from error
                limit = 1
                continue
            return Put(stored.offset, stored.offset + count, time.time())

    async def _sent(self, sending: Awaitable[Any]) -> Any:
        try:
            return await sending
        except (KafkaError, TimeoutError, OSError, asyncio.CancelledError):
            # Also where it is refused: aiokafka has counted it, and what follows would be out of
            # order to Kafka.
            self._in_doubt = True
            raise

    async def _send(self, producer: Any, batch: Any, tp: TP) -> Any:
        batch.close()
        await self._know(producer, tp)
        future = await producer.send_batch(batch, tp.topic, partition=tp.partition)
        # Shielded, since the producer forgets a batch whose future is cancelled.
        return await asyncio.shield(future)

    async def _know(self, producer: Any, tp: TP) -> None:
        """The producer looks every few minutes for what has changed."""
        partitions = await producer.partitions_for(tp.topic)
        if tp.partition not in partitions:
            await producer.client.force_metadata_update()
        if tp.partition not in await producer.partitions_for(tp.topic):
            raise EntryRefused(
                f"topic {tp.topic} has no partition {tp.partition}: leave it to the key, "
                "or name one that there is"
            )


def _fits(batch: Any, entry: Outgoing) -> bool:
    timestamp = None if entry.timestamp is None else round(entry.timestamp * 1000)
    headers = [(header_name(name), content) for name, content in entry.headers]
    added = batch.append(timestamp=timestamp, key=entry.key, value=entry.value, headers=headers)
    return added is not None


def _refused(tp: TP, error: KafkaError) -> EntryRefused:
    return EntryRefused(f"Kafka refused an entry for {tp.topic}: {error}")
