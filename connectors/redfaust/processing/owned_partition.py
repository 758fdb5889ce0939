"""A partition in the hands of one worker, from taking it to losing it.

::

    WORKING ──end──▶ ENDING ──lose──▶ OVER
       └─────────────lose──────────────▲

From ENDING on no event of the partition is begun; those in progress still count. Once it is OVER
nothing counts any more: what finishes then is done again by whoever has the partition next, the
same worker perhaps, in another owned_partition.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from faust.types import TP, ConsumerMessage

from redfaust.processing.offset_tracker import Committed, OffsetTracker
from redfaust.processing.scope import acknowledging

UNKNOWN_SIZE = 1 << 20
"""Bytes of an entry, as long as none was seen: reading begins slowly, and soon knows better."""


class OwnedPartition:
    """Of one partition. Its messages lead here, so that each knows whether it still counts."""

    __slots__ = (
        "_batches",
        "_in_flight",
        "counts",
        "entry_size",
        "has_backlog",
        "log_end",
        "may_begin",
        "next",
        "read_at",
        "refused",
        "tp",
        "tracker",
    )

    def __init__(self, tp: TP, committed: Committed) -> None:
        self.tp = tp
        self.next = committed.position
        """The offset to read from."""
        self.log_end = committed.position
        """The position behind the last entry that was seen."""
        self.tracker = OffsetTracker(committed)
        self.refused = 0.0
        """Until when the partition is left alone, since the broker refuses to read it, by the
        monotonic clock."""
        self.entry_size: float = UNKNOWN_SIZE
        """Bytes of an entry that is to be read, as the last ones tell."""
        self.has_backlog = True
        """Whether there may be as many entries as are asked for."""
        self.read_at = 0.0
        """When it was read last, by the monotonic clock."""
        self._batches: deque[tuple[int, int]] = deque()
        """Of each batch that is in flight, the position behind it and its bytes."""
        self._in_flight = 0
        # No enum, since the hot loop asks for each event.
        self.may_begin = True
        """While WORKING."""
        self.counts = True
        """Until it is OVER."""

    def note_read(self, count: int, size: int) -> None:
        """Note how large entries were: they are taken to be so large at once, and only by and by
        for smaller."""
        self.entry_size = max(size / count, self.entry_size / 2)

    def deliver(self, end: int, size: int) -> None:
        """Note a batch, which ends before this position, as in flight."""
        self._batches.append((end, size))
        self._in_flight += size

    @property
    def bytes_in_flight(self) -> int:
        """Of batches that were delivered and are not finished."""
        position = self.tracker.position
        while self._batches and self._batches[0][0] <= position:
            self._in_flight -= self._batches.popleft()[1]
        return self._in_flight

    def end(self) -> None:
        """Begin no event any more."""
        self.may_begin = False

    def lose(self) -> None:
        """Nothing counts any more."""
        self.may_begin = self.counts = False


class OwnedMessage(ConsumerMessage):
    """A message of a partition that this worker has, or had."""

    __slots__ = ("owned_partition",)

    owned_partition: OwnedPartition

    def ack(self, consumer: Any, n: int = 1) -> bool:
        """What an application says by its event: finished, on behalf of who reads it here. That
        counts once, however often it is said. Elsewhere nobody knows who says it, and it counts."""
        if (stream := acknowledging()) is not None:
            return stream.finish(self)
        consumer.note_progress()
        return self.finish(n)

    def finish(self, n: int = 1) -> bool:
        """Note the event as finished by ``n`` of those who got it; whether that were the last. The
        consumer is to be told of progress by who says so."""
        raise NotImplementedError
