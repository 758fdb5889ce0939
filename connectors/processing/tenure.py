"""A partition in the hands of one worker, from taking it to losing it.

::

    WORKING ──end──▶ ENDING ──lose──▶ OVER
       └─────────────lose──────────────▲

From ENDING on no event of the partition is begun; those in progress still count. Once it is OVER
nothing counts any more: what finishes then is done again by whoever has the partition next, the
same worker perhaps, in another tenure.
"""

from __future__ import annotations

from typing import Any

from faust.types import TP, ConsumerMessage

from connectors.processing.scope import acknowledging
from connectors.processing.watermark import Committed, Watermark


class Tenure:
    """Of one partition. Its messages lead here, so that each knows whether it still counts."""

    __slots__ = (
        "committed",
        "counts",
        "log_end",
        "may_begin",
        "next",
        "refused",
        "tp",
        "watermark",
    )

    def __init__(self, tp: TP, committed: Committed) -> None:
        self.tp = tp
        self.next = committed.position
        """The offset to read from."""
        self.log_end = committed.position
        """The position behind the last entry that was seen."""
        self.watermark = Watermark(committed)
        self.refused = 0.0
        """Until when the partition is left alone, since the broker refuses to read it, by the
        monotonic clock."""
        # No enum, since the hot loop asks for each event.
        self.may_begin = True
        """While WORKING."""
        self.counts = True
        """Until it is OVER."""

    def end(self) -> None:
        """Begin no event any more."""
        self.may_begin = False

    def lose(self) -> None:
        """Nothing counts any more."""
        self.may_begin = self.counts = False


class Held(ConsumerMessage):
    """A message of a partition that this worker has, or had."""

    __slots__ = ("tenure",)

    tenure: Tenure

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
