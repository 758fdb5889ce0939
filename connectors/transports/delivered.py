"""An entry on its way from the consumer through the agents."""

from __future__ import annotations

from typing import Any

from connectors.processing.tenure import Held, Tenure
from connectors.transports.broker import Record


class Delivered(Held):
    """Faust's message, made from a record and knowing where it is to be counted as finished.

    There is one for each entry, so it has no more of its own than it needs.
    """

    __slots__ = ("source",)

    timestamp_type = 0
    checksum = None
    generation_id = 0

    def __init__(self, record: Record, tenure: Tenure, time_in: float) -> None:
        # Faust's does the same for more kinds of brokers, and takes three times as long.
        self.topic, self.partition = self.tp = tenure.tp
        self.offset, self.timestamp, self.key, self.value, headers, self.source = record
        self.headers = headers  # type: ignore[assignment] # a sequence, as Faust reads them
        self.tenure = tenure
        self.refcount = 0
        self.time_in = time_in
        self.time_out = self.time_total = None
        self.acked = self.tracked = False

    def ack(self, consumer: Any, n: int = 1) -> bool:
        """Note the event as finished by ``n`` of those who got it; whether that were the last.

        Faust's takes a lock for it. Here, all that is to be finished is so in the event loop.
        """
        self.refcount -= n
        if self.refcount > 0 or self.acked:
            return False
        self.acked = True
        tenure = self.tenure
        if not tenure.counts:  # read before the partition moved, and delivered again
            return False
        tenure.watermark.finish(self.offset)
        if not consumer.progress_noted:
            consumer.note_progress()
        return True

    @property
    def serialized_key_size(self) -> int:  # type: ignore[override] # Faust's is written once
        return len(self.key or b"")

    @property
    def serialized_value_size(self) -> int:  # type: ignore[override]
        return len(self.value or b"")
