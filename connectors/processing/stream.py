"""The loop that hands events to agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, TypeVar

from faust.exceptions import Skip
from faust.sensors import Monitor
from faust.streams import Stream as FaustStream
from faust.types import ChannelT, EventT
from mode.utils.futures import maybe_async

from connectors.processing.queue import EventQueue

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

    def __aiter__(self) -> AsyncIterator[Any]:
        channel = self.channel
        if isinstance(channel, ChannelT) and isinstance(channel.queue, EventQueue):
            iterator = self._events(channel.queue)
            self._active_agens.add(iterator)
            return iterator
        return super().__aiter__()

    async def _events(self, queue: EventQueue) -> AsyncGenerator[Any, None]:
        self._finalized = True
        started_here = await self.maybe_start()
        # The built-in monitor is told of batches by the conductor: asking it about each event
        # would cost more than the event. Sensors that the application added see each one.
        self._observed = any(type(sensor) is not Monitor for sensor in self.app.sensors)
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
                        return
                    since_yield = 0
                if not self._is_current(event):
                    continue
                value = await self._enter(event)
                acknowledge = self.enable_acks or value is self._skipped_value
                if value is not self._skipped_value:
                    self.events_total += 1
                    yield value
                self.current_event = None
                if acknowledge:
                    self.settle(event)
        finally:
            self._channel_stop_iteration(self.channel)
            if started_here:
                await self.stop()
                self.service_reset()

    def _is_current(self, event: EventT[Any]) -> bool:
        """False for events that were fetched before partitions moved: an heir has them."""
        app = self.app
        return (
            app.flow_control.is_active()
            and event.message.generation_id == app.consumer_generation_id
        )

    async def _enter(self, event: EventT[Any]) -> Any:
        """Make an event the current one and run the stream's processors over its value."""
        message = event.message
        if not message.tracked:
            message.tracked = True
            self.app.consumer.unacked.add(message)
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

    def settle(self, event: EventT[Any]) -> None:
        """Note an event as finished by this stream."""
        last = event.ack()
        message = event.message
        if self._observed:
            self._on_stream_event_out(message.tp, message.offset, self, event, self._sensor_state)
            if last:
                self._on_message_out(message.tp, message.offset, message)
