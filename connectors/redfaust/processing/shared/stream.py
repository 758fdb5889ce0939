"""What agents with shared delivery read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from faust.exceptions import ImproperlyConfigured
from faust.types import EventT

from redfaust.processing.queue import EventQueue
from redfaust.processing.scope import Scope
from redfaust.processing.shared.in_flight import message_of
from redfaust.processing.shared.message import State
from redfaust.processing.stream import Stream

T = TypeVar("T")


class SharedStream(Stream[T]):
    """The same loop, whose events do not depend on who owns partitions."""

    is_conducted = False

    def _passes_by(self, queue: EventQueue, event: EventT[Any]) -> bool:
        """Whether an event has been given back, or claimed by another worker, while it waited."""
        message = message_of(event)
        if message.state is not State.WAITING:
            queue.done(event)
            return True
        message.state = State.IN_PROGRESS
        return False

    def _take_up(self, event: EventT[Any], scope: Scope) -> None:
        scope.outlet = message_of(event).effects
        super()._take_up(event, scope)

    def take_back(self, events: Sequence[EventT[Any]]) -> None:
        for event in events:
            if (message := message_of(event)).state is State.IN_PROGRESS:  # and not lost meanwhile
                message.state = State.WAITING
        super().take_back(events)

    def _announce(self) -> None:
        """Nobody waits for its events when partitions move."""

    def _batches(self, *_: Any) -> NoReturn:
        """Raises ImproperlyConfigured: events are finished one by one."""
        raise ImproperlyConfigured(
            'an agent with delivery="shared" gets its events one by one: '
            "let more of them work at a time, with concurrency="
        )
