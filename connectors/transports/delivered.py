"""An entry on its way from the consumer through the agents."""

from __future__ import annotations

from typing import Any

from faust.types import TP, ConsumerMessage

from connectors.processing.watermark import Watermark
from connectors.transports.broker import Record


class Delivered(ConsumerMessage):
    """Faust's message, made from a record and knowing where it is to be counted as finished.

    There is one for each entry, so it has no more of its own than it needs.
    """

    __slots__ = ("source", "watermark")

    timestamp_type = 0
    checksum = None

    def __init__(
        self,
        tp: TP,
        record: Record,
        watermark: Watermark | None,
        generation_id: int,
        time_in: float,
    ) -> None:
        # Faust's does the same for more kinds of brokers, and takes three times as long.
        self.topic, self.partition = self.tp = tp
        self.offset, self.timestamp, self.key, self.value, headers, self.source = record
        self.headers = headers  # type: ignore[assignment] # a sequence, as Faust reads them
        self.watermark = watermark
        """Of its partition; ``None`` where nothing is committed."""
        self.refcount = 0
        self.generation_id = generation_id
        self.time_in = time_in
        self.time_out = self.time_total = None
        self.acked = self.tracked = False

    def ack(self, consumer: Any, n: int = 1) -> bool:
        """Note the event as finished by ``n`` of those who got it; whether that were the last.

        Faust's takes a lock for it. Here, all that is to be finished is so in the event loop.
        """
        self.refcount -= n
        return self.refcount <= 0 and bool(consumer.ack(self))

    @property
    def serialized_key_size(self) -> int:  # type: ignore[override] # Faust's is written once
        return len(self.key or b"")

    @property
    def serialized_value_size(self) -> int:  # type: ignore[override]
        return len(self.value or b"")
