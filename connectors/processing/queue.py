"""The buffer between the conductor and an agent."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from faust.types import EventT
from mode.utils.queues import ThrowableQueue


class EventQueue(ThrowableQueue[EventT[Any]]):
    """A queue that takes a whole batch in one step.

    It has no size limit of its own: the consumer stops reading a partition that has too many
    events in flight, so putting never has to wait.
    """

    _queue: deque[EventT[Any]]
    _getters: deque[Any]

    def put_batch(self, events: Iterable[EventT[Any]]) -> None:
        """Append events and wake those who wait for one."""
        self._queue.extend(events)
        for _ in range(min(len(self._getters), len(self._queue))):
            self._wakeup_next(self._getters)  # type: ignore[attr-defined]

    def clear(self) -> None:
        """Forget errors, not events.

        Faust clears its queues once more after partitions moved, when new events may be here
        already. Old ones are known by their generation, and passed over by the stream.
        """
        self._errors.clear()

    @property
    def buffered(self) -> deque[EventT[Any]]:
        """The events themselves, for the one hot loop that pops them off the left."""
        return self._queue
