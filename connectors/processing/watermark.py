"""How far a partition is finished.

Events of a partition are delivered in order and may finish in any. The position that can be
committed is the one before the oldest unfinished event; offsets need not be consecutive, so the
delivered ones are kept, not computed (Faust's own arithmetic commits past an unfinished event:
faust-streaming#606).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from connectors.transports.broker import Advance


class Watermark:
    """Delivered and finished offsets of one partition."""

    def __init__(self, position: int) -> None:
        self._committed = position
        self._position = position
        self._unfinished: deque[int] = deque()
        self._finished_early: set[int] = set()
        self._finished_since = 0

    @property
    def in_flight(self) -> int:
        """Events that were delivered and lie at or above the oldest unfinished one."""
        return len(self._unfinished)

    @property
    def position(self) -> int:
        """Everything below is finished."""
        return self._position

    def deliver(self, offsets: Iterable[int]) -> None:
        """Note events as delivered, in their order in the partition."""
        self._unfinished.extend(offsets)

    def finish(self, offset: int) -> None:
        """Note an event as finished. An offset that is not in flight changes nothing."""
        unfinished = self._unfinished
        if not unfinished or offset < unfinished[0]:
            return
        if offset != unfinished[0]:
            self._finished_early.add(offset)
            return
        unfinished.popleft()
        self._finished_since += 1
        while unfinished and unfinished[0] in self._finished_early:
            offset = unfinished.popleft()
            self._finished_early.discard(offset)
            self._finished_since += 1
        self._position = offset + 1

    def pending(self) -> Advance | None:
        """What could be committed now, if anything."""
        if self._position == self._committed:
            return None
        return Advance(self._position, self._finished_since)

    def committed(self, advance: Advance) -> None:
        """Note that an advance has been committed."""
        self._committed = advance.position
        self._finished_since -= advance.finished
