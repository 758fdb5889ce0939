"""The loop that hands events to agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from faust.agents.agent import current_agent
from faust.exceptions import Skip
from faust.sensors import Monitor
from faust.streams import Stream as FaustStream
from faust.types import ChannelT, EventT
from mode.utils.futures import maybe_async

from connectors.processing.backing import Backing, backing_of
from connectors.processing.parking import ParkedMessage
from connectors.processing.queue import EventQueue
from connectors.processing.scope import Scope, open_scope
from connectors.processing.topic import Topic

if TYPE_CHECKING:
    from connectors.transports.consumer import Consumer

T = TypeVar("T")

YIELD_EVERY = 64
"""Events after which the loop lets other tasks run. Faust does so after each one."""


class Stream(FaustStream[T]):
    """Faust's stream with another inner loop.

    What an agent sees is the same but for one thing: an event counts as finished when the agent
    asks for the next one or ends, not when its loop is torn down by an exception. Who settles
    that event then is :class:`~connectors.processing.agent.Agent`.
    """

    _observed = False
    _sensor_state: dict[Any, Any] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.in_hand: dict[EventT[Any], Scope] = {}
        """Events that were handed out and are not finished, in their order: one, or those of a
        batch. With what was written for each."""
        # Faust holds them weakly. But a batch that its function has dropped, since that failed,
        # would be closed at once, and its events acknowledged before they are set aside.
        self._active_agens = set()  # type: ignore[assignment]
        self.told_to_end = False
        """Whether its end was asked for from outside, as at a stop."""

    def __aiter__(self) -> AsyncIterator[Any]:
        channel = self.channel
        if isinstance(channel, ChannelT) and isinstance(channel.queue, EventQueue):
            iterator = self._events(channel.queue)
            self._active_agens.add(iterator)
            return iterator
        return super().__aiter__()

    async def _events(self, queue: EventQueue) -> AsyncGenerator[Any, None]:
        self._finalized = True
        self.told_to_end = False
        # An agent's stream outlives its function, which is started anew after a failure.
        stop_after = await self.maybe_start() and not self._is_an_agents()
        self.app.consumer.read_by(self)  # type: ignore[attr-defined] # ours, as this stream is
        # The built-in monitor is told of batches by the conductor: asking it about each event
        # would cost more than the event. Sensors that the application added see each one.
        self._observed = any(type(sensor) is not Monitor for sensor in self.app.sensors)
        backing = backing_of(self.app)
        buffered = queue.buffered
        since_yield = 0
        try:
            while not self.should_stop:
                if since_yield >= YIELD_EVERY:
                    since_yield = 0
                    await asyncio.sleep(0)
                if buffered and not queue._errors:
                    event = buffered.popleft()
                    since_yield += 1
                else:
                    try:
                        event = await queue.get()
                    except StopAsyncIteration:  # how Faust ends a stream from outside
                        self.told_to_end = True
                        return
                    since_yield = 0
                if not self._is_current(event):
                    queue.done(event)
                    continue
                if backing is not None and backing.unit.parking and self._parked(backing, event):
                    continue
                scope = self._open_scope([event])
                value = await self._enter(event, scope)
                acknowledge = self.enable_acks or value is self._skipped_value
                if value is not self._skipped_value:
                    self.events_total += 1
                    yield value
                self.current_event = None
                if acknowledge:
                    self.settle(event)
                else:
                    if self._is_this_workers(event):
                        scope.join()
                    queue.done(event)
        finally:
            self._channel_stop_iteration(self.channel)
            if stop_after:
                await self.stop()
                self.service_reset()
                self._active_agens.clear()

    def _parked(self, backing: Backing, event: EventT[Any]) -> bool:
        """Park an event if another of its key is."""
        parking = backing.unit.parking
        held = parking.holds(self.reader, event.message)
        if held:
            parking.queue(self.reader, event.message)
            self.settle(event)
        return held

    def _open_scope(self, events: list[EventT[Any]]) -> Scope:
        scope = open_scope(events, self.reader)
        for event in events:
            if isinstance(message := event.message, ParkedMessage):
                backing = backing_of(self.app)
                assert backing is not None
                scope.defer(partial(backing.unit.parking.done, message))
        return scope

    @property
    def reader(self) -> str:
        """The agent whose events these are, by name; empty where it is none."""
        return self.channel.reader if isinstance(self.channel, Topic) else ""

    def _is_an_agents(self) -> bool:
        agent = current_agent()
        root = self.get_root_stream()
        return agent is not None and any(actor.stream is root for actor in agent._actors)  # type: ignore[attr-defined]

    def _is_current(self, event: EventT[Any]) -> bool:
        """False for events that were fetched before partitions moved: an heir has them."""
        return self.app.flow_control.is_active() and self._is_this_workers(event)

    def _is_this_workers(self, event: EventT[Any]) -> bool:
        """False for events whose partitions have moved since: they are delivered again."""
        return event.message.generation_id == self.app.consumer_generation_id

    async def _enter(self, event: EventT[Any], scope: Scope) -> Any:
        """Make an event the current one and run the stream's processors over its value."""
        message = event.message
        if not self.enable_acks:
            self._let_go_of_acknowledged()
        self.in_hand[event] = scope
        if not message.tracked:
            message.tracked = True
            if self._observed:
                self._on_message_in(message.tp, message.offset, message)
        if self._observed:
            self._sensor_state = self._on_stream_event_in(message.tp, message.offset, self, event)
        self._set_current_event(event)
        value = event.value
        if not self._processors and self.join_strategy is None:
            return value
        try:
            for processor in self._processors:
                value = await maybe_async(processor(value))
            return await self.on_merge(value)
        except Skip:
            return self._skipped_value

    def _let_go_of_acknowledged(self) -> None:
        """An application that acknowledges itself may do so behind the stream's back."""
        while self.in_hand and (first := next(iter(self.in_hand))).message.acked:
            self._put_down(first)

    async def ack(self, event: EventT[Any]) -> bool:
        """Faust's way to finish an event by hand; its batches use it."""
        self._put_down(event)
        return await super().ack(event)

    def _put_down(self, event: EventT[Any]) -> None:
        scope = self.in_hand.pop(event, None)
        if scope is not None and self._is_this_workers(event):
            scope.join()
        cast("Consumer", self.app.consumer).note_progress()

    def take_back(self, events: Sequence[EventT[Any]]) -> None:
        """Have events that failed handed out once more, before all others."""
        buffered = cast(EventQueue, cast(Topic, self.channel).queue).buffered
        for event in events:
            del self.in_hand[event]
        buffered.extendleft(reversed(events))

    async def let_go(self) -> None:
        """Close what an agent's function has left half read, so that it can be started anew."""
        for iterator in list(self._active_agens):
            with suppress(RuntimeError):  # another task is reading it, and goes on
                await iterator.aclose()
                self._active_agens.discard(iterator)

    def settle(self, event: EventT[Any]) -> None:
        """Note an event as finished by this stream, with what was written for it."""
        self._put_down(event)
        cast(EventQueue, cast(Topic, self.channel).queue).done(event)
        last = event.ack()
        message = event.message
        if not last:
            reader = cast(Topic, self.channel).reader
            cast("Consumer", self.app.consumer).finished_by(message, reader)
        if self._observed:
            self._on_stream_event_out(message.tp, message.offset, self, event, self._sensor_state)
            if last:
                self._on_message_out(message.tp, message.offset, message)
