"""What one agent of this worker has claimed and not settled."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable
from itertools import count
from typing import Any, cast

from faust.types import TP, EventT

from redfaust.brokers.share_group import Offsets
from redfaust.processing.shared.message import SharedMessage, State


class InFlight:
    """Its messages, and when those that failed are due again."""

    def __init__(self) -> None:
        self._messages: dict[tuple[TP, int], SharedMessage] = {}
        self.size = 0
        """Bytes of their values."""
        self._postponed: list[tuple[float, int, EventT[Any]]] = []
        self._order = count()

    def holds(self, tp: TP, offset: int) -> bool:
        """Whether an entry is here already."""
        return (tp, offset) in self._messages

    def add(self, message: SharedMessage) -> None:
        """Take a message."""
        self._messages[message.tp, message.offset] = message
        self.size += message.size

    def remove(self, messages: Iterable[SharedMessage]) -> None:
        """Have done with messages, or with those of them that are here."""
        for message in messages:
            self._forget(message)

    def _forget(self, message: SharedMessage) -> None:
        if self._messages.pop((message.tp, message.offset), None) is not None:
            self.size -= message.size

    @property
    def busy(self) -> int:
        """Messages that are with the agent, or are the next to be."""
        return len(self.find(State.WAITING, State.IN_PROGRESS))

    @property
    def postponed(self) -> int:
        """Messages that wait for another attempt."""
        return len(self._postponed)

    def find(self, *states: State) -> list[SharedMessage]:
        """The messages in one of these states."""
        return [message for message in self._messages.values() if message.state in states]

    def at(self, offsets: Offsets) -> list[SharedMessage]:
        """The messages that lie there, as far as they are here and not committed."""
        places = [(tp, offset) for tp, of_tp in offsets.items() for offset in of_tp]
        found = [self._messages[place] for place in places if place in self._messages]
        return [message for message in found if message.state is not State.COMMITTED]

    def lose(self, lost: Iterable[SharedMessage]) -> None:
        """Forget messages, which are somebody else's now."""
        for message in lost:
            message.state = State.LOST
            self._forget(message)

    # -- another attempt ---------------------------------------------------------------------

    def postpone(self, event: EventT[Any], pause: float) -> None:
        """Have an event tried again in so many seconds."""
        message_of(event).state = State.POSTPONED
        heapq.heappush(self._postponed, (_now() + pause, next(self._order), event))

    @property
    def seconds_until_due(self) -> float:
        """Until the next one is; infinite if there is none."""
        return self._postponed[0][0] - _now() if self._postponed else float("inf")

    def take_due(self, limit: int) -> list[EventT[Any]]:
        """Events that are to be tried now."""
        due: list[EventT[Any]] = []
        while len(due) < limit and self.seconds_until_due <= 0:
            _, _, event = heapq.heappop(self._postponed)
            message = message_of(event)
            if message.state is State.POSTPONED:
                message.state = State.WAITING
                due.append(event)
        return due


def message_of(event: EventT[Any]) -> SharedMessage:
    """The message of an event that was delivered to one of many."""
    return cast(SharedMessage, event.message)


def offsets_of(messages: Iterable[SharedMessage]) -> Offsets:
    """Where messages lie."""
    offsets: dict[TP, list[int]] = {}
    for message in messages:
        offsets.setdefault(message.tp, []).append(message.offset)
    return offsets


def _now() -> float:
    return asyncio.get_running_loop().time()
