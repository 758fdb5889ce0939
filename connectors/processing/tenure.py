"""A partition in the hands of one worker, from taking it to losing it.

::

    WORKING ──end──▶ ENDING ──lose──▶ OVER
       └─────────────lose──────────────▲

From ENDING on no event of the partition is begun; those in progress still count. Once it is OVER
nothing counts any more: what finishes then is done again by whoever has the partition next, the
same worker perhaps, in another tenure.
"""

from __future__ import annotations

import enum

from faust.types import TP, ConsumerMessage

from connectors.processing.watermark import Committed, Watermark


class Phase(enum.Enum):
    """Where a tenure is in its life; see the drawing above."""

    WORKING = "working"
    ENDING = "ending"
    OVER = "over"


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
        # What the hot loop asks for each event; the phase says the same to everybody else.
        self.may_begin = self.counts = True

    @property
    def phase(self) -> Phase:
        """Where this tenure is in its life."""
        if self.may_begin:
            return Phase.WORKING
        return Phase.ENDING if self.counts else Phase.OVER

    def end(self) -> None:
        """Begin no event any more."""
        self.may_begin = False

    def lose(self) -> None:
        """Nothing counts any more."""
        self.may_begin = self.counts = False

    def finish(self, offset: int) -> None:
        """Note an event as finished by all who got it."""
        self.watermark.finish(offset)


class Held(ConsumerMessage):
    """A message of a partition that this worker has, or had."""

    __slots__ = ("tenure",)

    tenure: Tenure
