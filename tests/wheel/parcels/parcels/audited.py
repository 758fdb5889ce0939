"""A broker of its own: memory that remembers the topics which were written to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from faust.types import TP

from redfaust.brokers.broker import Appended, Broker, Outgoing, Place, ProducerBatch
from redfaust.brokers.memory import MemoryBroker
from redfaust.transports.transport import BrokerTransport

written: Counter[str] = Counter()


class AuditedBroker(MemoryBroker):
    """Counts, by topic, what is appended."""

    async def append(self, entries: Sequence[Outgoing]) -> Sequence[Appended]:
        written.update(entry.topic for entry in entries)
        return await super().append(entries)

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        written.update(sequenced.entry.topic for batch in batches for sequenced in batch.entries)
        return await super().append_once(batches)


class Transport(BrokerTransport):
    """Registered for ``audited://``."""

    driver_version = "audited"

    @classmethod
    def new_broker(cls, url: str, default_partitions: int) -> Broker:
        return AuditedBroker(url, default_partitions=default_partitions)
