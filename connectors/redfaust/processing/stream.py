"""What agents read: events one by one, or in batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from faust.types import EventT
from mode import Seconds, want_seconds

from redfaust.processing.event_stream import EventStream, HandOut, counts, event_of
from redfaust.processing.queue import EventQueue
from redfaust.processing.scope import Scope, State, open_scope

T = TypeVar("T")


class Stream(EventStream[T]):
    """Adds batches.

    Faust collects them in a task of its own, outside of any event. Here the stream does, and a
    batch has one scope.
    """

    _collecting: asyncio.Timeout | None = None
    """For the next event of a batch."""

    def take(self, max_: int, within: Seconds) -> AsyncGenerator[Sequence[Any], None]:
        """Values in batches of at most ``max_``, of what comes ``within`` seconds of the first.

        What is written and sent for a batch counts as a whole, when the agent asks for the next
        one. If the agent raises, each event of the batch is tried again by itself.
        """
        return self._batches(max_, within, _value) or super().take(max_, within)

    def take_events(
        self, max_: int, within: Seconds
    ) -> AsyncGenerator[Sequence[EventT[Any]], None]:
        """As :meth:`take`, with the events instead of their values."""
        return self._batches(max_, within, event_of) or super().take_events(max_, within)

    def take_with_timestamp(
        self, max_: int, within: Seconds, timestamp_field_name: str
    ) -> AsyncGenerator[Sequence[Any], None]:
        """As :meth:`take`; a value that is a dictionary gets the time of its event as a field."""

        def with_timestamp(event: EventT[Any], value: Any) -> Any:
            if isinstance(value, dict) and timestamp_field_name:
                value[timestamp_field_name] = event.message.timestamp
            return value

        return self._batches(max_, within, with_timestamp) or super().take_with_timestamp(
            max_, within, timestamp_field_name
        )

    def _batches(
        self, size: int, within: Seconds, hand_out: HandOut
    ) -> AsyncGenerator[list[Any], None] | None:
        if (queue := self.own_queue()) is None:
            return None
        iterator = self._batches_of(queue, size, want_seconds(within), hand_out)
        self._active_agens.add(iterator)
        return iterator

    async def _batches_of(
        self, queue: EventQueue, size: int, within: float, hand_out: HandOut
    ) -> AsyncGenerator[list[Any], None]:
        loop, scope = await self._begin(queue), Scope()
        try:
            while not self.should_stop:
                await asyncio.sleep(0)
                scope, batch = await self._collect(queue, size, within)
                if self.told_to_end or not batch or not all(map(counts, scope.events)):
                    self._give_back(scope)
                    if self.told_to_end:
                        return
                    continue
                self.events_total += len(batch)
                self.tell_monitor()
                yield [hand_out(event, value) for event, value in batch]
                self.current_event = None
                self._have_done_with(scope)
                self._have_done_with_last()
        except GeneratorExit:
            self._leave_loop(loop, scope)
            raise
        finally:
            await self._end()

    async def _collect(
        self, queue: EventQueue, size: int, within: float
    ) -> tuple[Scope, list[tuple[EventT[Any], Any]]]:
        """Events with their processed values, and their scope. Fewer at the end of the stream."""
        batch: list[tuple[EventT[Any], Any]] = []
        events: list[EventT[Any]] = []
        scope = open_scope(events, self.reader, None, self)
        deadline: float | None = None
        try:
            while len(batch) < size:
                if queue.buffered and not queue._errors:
                    event = queue.buffered.popleft()
                elif (waited_for := await self._wait_until(deadline, queue)) is not None:
                    event = waited_for
                else:
                    break
                if self._passes_by(queue, event):
                    continue
                events.append(event)
                self._take_up(event, scope)
                value = await self._process(scope, event.value)
                if value is not self._skipped_value:
                    batch.append((event, value))
                    deadline = deadline or asyncio.get_running_loop().time() + within
                elif batch:  # what its processors did is with the others'
                    scope.defer(partial(self.settle, event))
                else:
                    self.settle(event)
                    events = []
                    scope = open_scope(events, self.reader, None, self)
        except BaseException:
            if scope is not self._failed_early:
                self._give_back(scope)
            raise
        return scope, batch

    async def _wait_until(self, deadline: float | None, queue: EventQueue) -> EventT[Any] | None:
        """The next event of a batch; ``None`` where none comes in time, or the stream has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline) as self._collecting:
                return await self._wait_for(queue)
        return None

    def _have_done_with(self, scope: Scope) -> None:
        if scope is self._failed_early and scope.state is State.OPEN:
            # The agent made nothing of it. It goes on with the others.
            *unseen, failed = self._in_hand_of(scope)
            scope.drop()
            self.take_back(unseen)
            scope = Scope((failed,), self.reader, None, self)
            self._take_up(failed, scope)
        super()._have_done_with(scope)

    def hurry(self) -> None:
        """Hand out a batch as far as it has come, since partitions are about to move."""
        if self.in_hand and self._collecting is not None:
            with suppress(RuntimeError):  # it is full, and with the agent
                self._collecting.reschedule(0)


def _value(_: EventT[Any], value: Any) -> Any:
    return value
