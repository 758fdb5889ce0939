"""The buffers between the conductor and an agent."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
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

    def __init__(
        self, *args: Any, on_empty: Callable[[], None] | None = None, **kwargs: Any
    ) -> None:
        """``on_empty`` is called when somebody waits for an event."""
        super().__init__(*args, **kwargs)
        self._on_empty = on_empty

    async def get(self) -> EventT[Any]:
        if self._on_empty is not None and not self._queue:
            self._on_empty()
        event: EventT[Any] = await super().get()
        return event

    def put_batch(self, events: Iterable[EventT[Any]]) -> None:
        """Append events and wake those who wait for one."""
        self._queue.extend(events)
        self._wake()

    def put_first(self, events: Sequence[EventT[Any]]) -> None:
        """Put events that are tried again before all others.

        Behind a backlog they would wait for it, and their keys with them: all that comes for these
        meanwhile is parked. No event of such a key is begun while one is tried again.
        """
        self._queue.extendleft(reversed(events))
        self._wake()

    def _wake(self) -> None:
        for _ in range(min(len(self._getters), len(self._queue))):
            self._wakeup_next(self._getters)  # type: ignore[attr-defined]

    def clear(self) -> None:
        """Forget errors, not events.

        Faust clears its queues once more after partitions moved, when new events may be here
        already. Old ones are known by their generation, and passed over by the stream.
        """
        self._errors.clear()

    def done(self, event: EventT[Any]) -> None:
        """Note that an event that was taken out has been dealt with. Harmless if repeated."""

    @property
    def buffered(self) -> deque[EventT[Any]]:
        """The events themselves, for the one hot loop that pops them off the left."""
        return self._queue


class KeyedQueue(EventQueue):
    """For several consumers: of each key, one event at a time is out, and in order.

    Otherwise two of them could work on one row at once, and the later writer would undo what the
    earlier one did. Events without a key have no order among themselves.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._claimed: dict[bytes, EventT[Any]] = {}
        """By key the event that is in the queue or taken out."""
        self._held: defaultdict[bytes, deque[EventT[Any]]] = defaultdict(deque)

    def put_batch(self, events: Iterable[EventT[Any]]) -> None:
        free = []
        for event in events:
            key = event.message.key
            if key is None:
                free.append(event)
            elif key in self._claimed:
                self._held[key].append(event)
            else:
                self._claimed[key] = event
                free.append(event)
        super().put_batch(free)

    def done(self, event: EventT[Any]) -> None:
        key = event.message.key
        if key is None or self._claimed.get(key) is not event:
            return
        del self._claimed[key]
        waiting = self._held.pop(key, None)
        if waiting:
            self.put_batch(waiting)
