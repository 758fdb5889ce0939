"""The loop that hands events to agents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from faust.agents.agent import current_agent
from faust.exceptions import Skip
from faust.streams import Stream as FaustStream
from faust.types import ChannelT, EventT, Message, StreamT
from faust.types.models import FieldDescriptorT
from faust.types.streams import JoinableT
from mode.utils.futures import maybe_async

from redfaust.processing.failures import dead_letter
from redfaust.processing.monitoring import Tally, only_monitor
from redfaust.processing.owned_partition import OwnedMessage
from redfaust.processing.parking import ParkedMessage
from redfaust.processing.queue import EventQueue, KeyedQueue
from redfaust.processing.scope import Scope, State, scope_of_task, set_current
from redfaust.processing.state_backend import Backed, backed
from redfaust.processing.topic import Topic
from redfaust.processing.typed_values import dumps_json

if TYPE_CHECKING:
    from redfaust.processing.consumer_handle import ConsumerHandle

T = TypeVar("T")

HandOut: TypeAlias = Callable[[EventT[Any], Any], Any]
"""What an iterator gives of an event and its processed value."""

logger = logging.getLogger(__name__)

YIELD_AFTER = 0.0005
"""Seconds after which the loop lets other tasks run. Faust does so after each event, which costs
more than most events do."""

LOOK_EVERY = 16
"""Events between two looks at the clock."""


class EventStream(FaustStream[T]):
    """Faust's stream with another inner loop.

    What an agent sees is the same but for one thing: an event counts as finished when the agent
    asks for the next one or ends, not when its loop is torn down by an exception. Who settles
    that event then is :class:`~redfaust.processing.agent.Agent`.
    """

    is_conducted = True
    """Whether the conductor has seen its events, and told the built-in monitor of them."""
    _tally: Tally | None = None
    """Where the built-in monitor is the only sensor."""
    processed_total = 0
    """Events that were finished without an exception."""
    skipped_total = 0
    """Events that its processors have filtered out."""
    _sensor_state: dict[Any, Any] | None = None
    _failed_early: Scope | None = None
    """Whose last event failed in a processor, so that none of its events was handed out."""
    _is_agents = False
    """Whether an agent reads it as its own, which starts it anew when it fails."""
    _reading_task: asyncio.Task[Any] | None = None
    _queue: EventQueue
    _consumer: ConsumerHandle
    _backed: Backed

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What is asked for each event has no default in the class: Python would look in both.
        self.reader = ""
        """The agent whose events these are, by name; empty where it is none."""
        self._observed = False
        """Whether there are sensors that see each event."""
        self._keyed: KeyedQueue | None = None
        self.in_hand: dict[EventT[Any], Scope] = {}
        """Events that were handed out and are not finished, in their order: one, or those of a
        batch. With what was written for each."""
        self._left = Scope()
        """What was in hand when an agent left its loop, until it asks for the next or ends."""
        self._loops = 0
        """How many have been begun."""
        self._loops_open = 0
        """How many of them have not ended."""
        self._stops_after = False
        """Whether it is to be stopped when the last one ends."""
        self._waiting: asyncio.Timeout | None = None
        """For the next event."""
        self._is_over = False
        """As ``should_stop``, which calls three functions, and is asked for each event."""
        self.told_to_end = False
        """Whether its end was asked for from outside, as at a stop."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate() or super().__aiter__()

    def events(self) -> AsyncIterable[EventT[Any]]:
        """The events instead of their values."""
        return self._iterate(event_of) or super().events()

    def items(self) -> AsyncIterator[tuple[Any, Any]]:
        """Keys and values, these before the stream's processors."""
        return self._iterate(_item) or super().items()

    def combine(self, *nodes: JoinableT, **kwargs: Any) -> StreamT[Any]:
        """One stream of the events of several topics, in Python ``one & other``.

        Faust's reads the first alone.
        """
        queue = self.own_queue()
        for node in nodes:
            if queue is not None and isinstance(node, EventStream) and node.own_queue() is not None:
                cast(Topic, node.channel).share(queue)
        return super().combine(*nodes, **kwargs)

    def noack(self) -> StreamT[Any]:
        """Its events are finished when the application acknowledges them.

        An agent that is started anew goes on with the same stream, which knows what is not yet.
        """
        if not self.enable_acks:
            return self
        if isinstance(self._next, EventStream) and not self._next.enable_acks:
            return self._next
        self._next = self.clone(enable_acks=False, prev=self)
        return self._next

    def own_queue(self) -> EventQueue | None:
        """``None`` for a channel that is not ours."""
        queue = self.channel.queue if isinstance(self.channel, ChannelT) else None
        return queue if isinstance(queue, EventQueue) else None

    def _iterate(self, hand_out: HandOut | None = None) -> AsyncIterator[Any] | None:
        if (queue := self.own_queue()) is None:
            return None
        iterator = self._events(queue, hand_out)
        self._active_agens.add(iterator)
        return iterator

    async def _events(
        self, queue: EventQueue, hand_out: HandOut | None
    ) -> AsyncGenerator[Any, None]:
        loop = await self._begin(queue)
        # What cannot change while the loop runs is looked up once, not for each event.
        buffered, errors, in_hand, backed_by = (
            queue.buffered,
            queue._errors,
            self.in_hand,
            self._backed,
        )
        reader, observed, settle, leave = self.reader, self._observed, self.settle, self._leave
        processors, is_joined = self._processors, self.join_strategy is not None
        since_look, yielded = 0, monotonic()
        try:
            while not self._is_over:
                if since_look >= LOOK_EVERY:
                    since_look, yielded = 0, await self._pause(yielded)
                if buffered and not errors:
                    event = buffered.popleft()
                    since_look += 1
                elif (waited_for := await self._wait_for(queue)) is not None:
                    event = waited_for
                    since_look, yielded = 1, monotonic()
                else:
                    return
                message: Any = event.message
                state_backend = backed_by.state_backend
                if (
                    not message.owned_partition.may_begin
                    or (state_backend is not None and state_backend.unit.parking.lines)
                ) and self._passes_by(queue, event):
                    continue
                scope = Scope((event,), reader, None, self)
                set_current(scope)
                put_down = settle if self.enable_acks else leave
                if observed or put_down is leave or isinstance(message, ParkedMessage):
                    self._take_up(event, scope)
                else:  # what _take_up comes to for nearly all: calling it would cost more
                    in_hand[event] = scope
                    self.current_event = event
                value = event.value
                if (processors or is_joined) and (
                    value := await self._process(scope, value)
                ) is self._skipped_value:
                    put_down = settle
                else:
                    self.events_total += 1
                    yield value if hand_out is None else hand_out(event, value)
                self.current_event = None
                put_down(event)
        except GeneratorExit:
            self._leave_loop(loop, scope)
            raise
        finally:
            await self._end()

    def _stopped_set(self) -> None:
        self._is_over = True
        super()._stopped_set()
        if self._waiting is not None:
            with suppress(RuntimeError):  # it has come
                self._waiting.reschedule(0)

    def _crash(self, reason: BaseException) -> None:
        self._is_over = True
        super()._crash(reason)

    def service_reset(self) -> None:
        super().service_reset()
        self._is_over = False

    @property
    def is_behind(self) -> bool:
        """Whether events wait to be handed out."""
        return bool(self._queue.buffered)

    def hurry(self) -> None:
        """Hand out what is held back, since partitions are about to move. Single events are not."""

    def _passes_by(self, queue: EventQueue, event: EventT[Any]) -> bool:
        """Whether an event is not to be handed out, but to be left to an heir, or parked."""
        message = cast(OwnedMessage, event.message)
        if not message.owned_partition.may_begin:
            queue.done(event)
            return True
        state_backend = self._backed.state_backend
        if state_backend is not None and state_backend.unit.parking.holds(self.reader, message):
            state_backend.unit.parking.queue(self.reader, message)
            nothing_done = self.in_hand[event] = Scope()
            nothing_done.drop()
            self.settle(event)
            return True
        return False

    async def _end(self) -> None:
        self.tell_monitor(0)
        if self.told_to_end or not self._is_agents:
            self.leave_channel()
        self._loops_open -= 1
        # The next loop may have begun: this one ends when the interpreter comes to it.
        if self._stops_after and not self._loops_open:
            self._stops_after = False
            await self.stop()
            self.service_reset()
            self._active_agens.clear()

    def leave_channel(self) -> None:
        """Have nothing more come. An instance that has a partition to itself is the only one to get
        its events: it stays subscribed while its function is started anew."""
        self._channel_stop_iteration(self.channel)

    async def _begin(self, queue: EventQueue) -> int:
        """Start the stream, and have done with what was handed out in other loops; which one this
        is."""
        self._finalized = True
        self.told_to_end = False
        self._queue, self._consumer = queue, cast("ConsumerHandle", self.app.consumer)
        self._keyed = queue if isinstance(queue, KeyedQueue) else None
        self._backed = backed(self.app)
        self.reader = cast(Topic, self.channel).reader
        self._is_agents, self._reading_task = self._is_an_agents(), asyncio.current_task()
        # An agent's stream outlives its function, which is started anew after a failure.
        if await self.maybe_start() and not self._is_agents:
            self._stops_after = True
        self._loops += 1
        self._loops_open += 1
        left, self._left = self._left, Scope()
        self._have_done_with(left)
        self._have_done_with_last()
        self._announce()
        monitor = only_monitor(self.app) if self.is_conducted else None
        self._observed = monitor is None
        if monitor is not None and self._tally is None:
            self._tally = Tally(monitor, self)
        self.tell_monitor(1)
        return self._loops

    def _announce(self) -> None:
        """Have the events in hand waited for when partitions move."""
        self._consumer.read_by(self)

    def tell_monitor(self, active: int | None = None) -> None:
        """Tell the built-in monitor what was done, and how much is in progress: what is in hand,
        unless it is said."""
        if self._tally is not None:
            taken, in_hand = self.events_total + self.skipped_total, len(self.in_hand)
            self._tally.tell(taken, taken - in_hand, in_hand if active is None else active)

    async def _pause(self, yielded: float) -> float:
        """Let other tasks run, if it is long ago that they did; when they last did."""
        if monotonic() - yielded < YIELD_AFTER:
            return yielded
        self.tell_monitor(1)
        await asyncio.sleep(0)
        return monotonic()

    async def _wait_for(self, queue: EventQueue) -> EventT[Any] | None:
        """The next event; ``None`` at the end."""
        self.tell_monitor()
        try:
            async with asyncio.timeout(None) as self._waiting:
                event: EventT[Any] = await queue.get()
        except (StopAsyncIteration, TimeoutError):  # how Faust ends a stream; ours was stopped
            self.told_to_end = True
            return None
        self.tell_monitor(len(self.in_hand) + 1)
        return event

    def _leave_loop(self, loop: int, scope: Scope) -> None:
        """What is in hand when a loop is left, by ``break`` for instance, is finished.

        An agent may have left it because it failed, and awaits things on its way out: there it is
        finished when the agent asks for the next event, in another loop, or ends. Elsewhere it is
        not if the task has failed or is cancelled: then it is delivered again.
        """
        if self._is_agents and loop == self._loops:
            self._left = scope
        elif not self._is_agents and has_failed(self._reading_task):
            self.log.warning("The loop over %s was interrupted; the event is delivered again", self)
            scope.drop()
            for event in self._in_hand_of(scope):
                del self.in_hand[event]
        else:
            self._have_done_with(scope)

    def have_done(self) -> bool:
        """Have done with what was handed out, since nobody asks for the next; whether anything
        was."""
        scopes = [scope for scope in self.in_hand.values() if scope.state is State.OPEN]
        for scope in scopes:
            self._have_done_with(scope)
        return bool(scopes)

    def _have_done_with_last(self) -> None:
        """What this task was handed last, in whichever loop, is finished: it asks for the next.

        The interpreter closes a loop that is left only later, when the next event could have been
        processed without what was written for this one.
        """
        scope = scope_of_task(None)
        if type(scope) is Scope and scope.stream is self:
            self._have_done_with(scope)

    def _have_done_with(self, scope: Scope) -> None:
        # If it was dropped it has failed, and is being dealt with.
        if scope.state is not State.DROPPED:
            put_down = self.settle if self.enable_acks else self._leave
            for event in scope.events:
                if self.in_hand.get(event) is scope:  # one may finish others
                    put_down(event)

    def _in_hand_of(self, scope: Scope) -> list[EventT[Any]]:
        """An event that is handed out again has another scope."""
        return [event for event in scope.events if self.in_hand.get(event) is scope]

    def _give_back(self, scope: Scope) -> None:
        """Have events handed out that nobody has seen yet."""
        if scope.state is State.OPEN:
            scope.drop()
            self.take_back(self._in_hand_of(scope))

    def _is_an_agents(self) -> bool:
        agent = current_agent()
        root = self.get_root_stream()
        return agent is not None and any(
            actor.stream.get_root_stream() is root
            for actor in agent._actors  # type: ignore[attr-defined]
        )

    def _take_up(self, event: EventT[Any], scope: Scope) -> None:
        """Make an event the current one; its scope has been opened."""
        message = event.message
        if not self.enable_acks:
            self._let_go_of_acknowledged()
        self.in_hand[event] = scope
        if isinstance(message, ParkedMessage):
            scope.defer(partial(message.parking.done, message))
        if self._observed:
            if not message.tracked:
                message.tracked = True
                self._on_message_in(message.tp, message.offset, message)
            self._sensor_state = self._on_stream_event_in(message.tp, message.offset, self, event)
        self.current_event = event

    async def _process(self, scope: Scope, value: Any) -> Any:
        """Run the stream's processors over the value of an event."""
        try:
            for processor in self._processors:
                value = await maybe_async(processor(value))
            return await self.on_merge(value)
        except Skip:
            self.skipped_total += 1
            return self._skipped_value
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                self._give_back(scope)
            elif self._passive and isinstance(error, Exception):
                await self._fail_in_passing(scope, error)
                return self._skipped_value
            else:
                self._failed_early = scope
            raise

    async def _fail_in_passing(self, scope: Scope, error: Exception) -> None:
        """Deal with an event that failed in a processor whose results no agent's function reads,
        such as that of ``group_by``."""
        scope.drop()
        agent: Any = self.app.agents.get(self.reader)
        for event in scope.events:
            if agent is None:
                dead_letter(self.app, event.message, error, agent=str(self))
            else:
                await agent.fail(self, event, error)

    async def _format_key(self, key: Any, value: Any) -> Any:
        """The new key of an event that ``group_by`` sends on: text, bytes, ``None``, or JSON of
        anything else, as in a table's key. An error fails the event; Faust's drops the event."""
        if isinstance(key, FieldDescriptorT):
            new = key.getattr(value)
        else:
            new = await maybe_async(key(value))
        return new if new is None or isinstance(new, str | bytes) else dumps_json(new)

    def _let_go_of_acknowledged(self) -> None:
        """An application that acknowledges itself may do so behind the stream's back."""
        while self.in_hand and (first := next(iter(self.in_hand))).message.acked:
            self._put_down(first)

    async def ack(self, event: EventT[Any]) -> bool:
        """As ``event.ack()``, where it is known who says so."""
        if self.own_queue() is None:
            return await super().ack(event)
        return self.finish(event.message)

    def finish(self, message: Message) -> bool:
        """See :class:`~redfaust.processing.scope.Finisher`. What was written for the event
        counts, and nothing more can be. Of a batch it counts as a whole, and so when that is done
        with."""
        for event, scope in self.in_hand.items():
            if event.message is message:
                if len(scope.events) == 1 or scope.state is not State.OPEN:
                    self.settle(event)
                elif scope.has_effects:
                    scope.defer(partial(self.settle, event))
                else:
                    self.in_hand[event] = Scope()
                    self.settle(event)
                return message.acked
        return False

    def _put_down(self, event: EventT[Any]) -> None:
        scope = self.in_hand.pop(event, None)
        if scope is not None and counts(event):
            if scope.state is not State.DROPPED:
                self.processed_total += 1
            scope.join()
        cast("ConsumerHandle", self.app.consumer).note_progress()

    def take_back(self, events: Sequence[EventT[Any]]) -> None:
        """Have events that failed handed out once more, before all others."""
        for event in events:
            del self.in_hand[event]
        self._queue.buffered.extendleft(reversed(events))
        self._consumer.note_progress()

    def interrupted(self) -> list[EventT[Any]]:
        """The events in whose middle the agent failed or was cancelled: what it did for them has
        never happened. Those that it has left, to acknowledge them later, have happened."""
        events = [e for e, scope in self.in_hand.items() if scope.state is not State.JOINED]
        for event in events:
            self.in_hand[event].drop()
        return events

    async def let_go(self) -> None:
        """Close what an agent's function has left half read, so that it can be started anew."""
        for iterator in list(self._active_agens):
            with suppress(RuntimeError):  # another task is reading it, and goes on
                await iterator.aclose()
                self._active_agens.discard(iterator)
        self._left = Scope()

    def _leave(self, event: EventT[Any]) -> None:
        """What was written for an event counts; when it is finished is up to the application."""
        scope = self.in_hand.get(event)
        if scope is not None and counts(event):
            scope.join()
        self._queue.done(event)

    def settle(self, event: EventT[Any]) -> None:
        """Note an event in hand as finished by this stream, with what was written for it."""
        scope = self.in_hand.pop(event, None)
        if scope is None:  # the application was earlier, or has begun another loop within this
            self._have_done_with_last()
            return
        message: Any = event.message
        if message.owned_partition.counts:
            if scope.state is not State.DROPPED:
                self.processed_total += 1
            scope.join()
        if self._keyed is not None:
            self._keyed.done(event)
        consumer = self._consumer
        last = message.finish()
        if not last:
            consumer.finished_by(message, self.reader)
        if not consumer.progress_noted:
            consumer.note_progress()
        if self._observed:
            self._on_stream_event_out(message.tp, message.offset, self, event, self._sensor_state)
            if last:
                self._on_message_out(message.tp, message.offset, message)


def is_cancelled() -> bool:
    """Whether this task is being cancelled, and not only something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def has_failed(task: asyncio.Task[Any] | None) -> bool:
    """Whether a task has ended with an exception, which is logged, or is being cancelled."""
    if task is None or not task.done():
        return task is not None and task.cancelling() > 0
    if task.cancelled() or (error := task.exception()) is None:
        return task.cancelled()
    # asyncio takes it as dealt with once it was asked for.
    logger.error("%s failed while it read a stream", task.get_name(), exc_info=error)
    return True


def counts(event: EventT[Any]) -> bool:
    """Whether what is done for an event counts: not if its partition was lost since."""
    return cast(OwnedMessage, event.message).owned_partition.counts


def _item(event: EventT[Any], _: Any) -> tuple[Any, Any]:
    return event.key, event.value


def event_of(event: EventT[Any], _: Any) -> EventT[Any]:
    return event
