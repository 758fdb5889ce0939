"""Agents that a failing event cannot stop."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from contextlib import aclosing, nullcontext
from functools import cached_property
from typing import Any, cast
from weakref import WeakKeyDictionary

import faust
from faust.agents.agent import Agent as FaustAgent
from faust.agents.agent import _current_agent
from faust.agents.models import ReqRepResponse
from faust.agents.replies import ReplyPromise
from faust.exceptions import ImproperlyConfigured
from faust.types import TP, ChannelT, EventT, Message, StreamT
from faust.types.agents import ActorRefT, AgentFun
from mode import Service
from mode.types import ServiceT

from redfaust import failpoints
from redfaust.brokers.capabilities import Capability
from redfaust.brokers.names import LONGEST_TOPIC
from redfaust.errors import AwaitedCancelled, Postponed
from redfaust.printable import printable
from redfaust.processing.dead_letters import line_of, name_of, text_of
from redfaust.processing.declarations import check_agent
from redfaust.processing.event_stream import EventStream, counts, is_cancelled
from redfaust.processing.failures import dead_letter
from redfaust.processing.parking import Failure, attempts_of
from redfaust.processing.replies import ReplyConsumer
from redfaust.processing.retries import Retries
from redfaust.processing.scope import open_scope
from redfaust.processing.shared.delivery import SharedDelivery
from redfaust.processing.shared.message import outlet_of
from redfaust.processing.shared.stream import SharedStream
from redfaust.processing.state_backend import StateBackend, state_backend_of
from redfaust.processing.stream import Stream
from redfaust.processing.topic import Topic

GiveUp = Callable[[EventT[Any], Exception], Awaitable[None]]
"""What is to be done for an event that is given up."""

RESTART_AFTER = 1.0
"""Seconds until a function that returned without having read anything is started again."""


class Delivery(enum.Enum):
    """Who gets an agent's events."""

    ORDERED = "ordered"
    """Whoever owns their partition, one after the other."""
    SHARED = "shared"
    """Whoever is free."""


class Agent(FaustAgent):
    """Faust's agent with another answer to an exception, and to a return.

    Faust acknowledges the event that made an agent raise, and forgets it. Here the event is tried
    again as ``retries`` says, and then set aside as a dead letter; the agent's function is started
    anew on the same stream. So it is when it returns: nobody else would read what comes for it.

    With ``delivery="shared"`` an event goes to whichever instance, on any worker, is free: no order
    is kept, not even of a key, and tables cannot be used. It is for work that waits on the outside.

    ``on_give_up`` is called with the event and the exception before an event becomes a dead
    letter. What it writes and sends is committed together with that.
    """

    mundane_level = "debug"

    failed_total = 0
    """Events of this agent that became dead letters, in this process."""
    retried_total = 0
    """Attempts that failed and are followed by another one, in this process."""

    def __init__(
        self,
        fun: AgentFun[Any],
        *,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        on_give_up: GiveUp | None = None,
        delivery: str = Delivery.ORDERED.value,
        **kwargs: Any,
    ) -> None:
        super().__init__(fun, **kwargs)
        check_agent(
            self.name,
            retries=retries,
            on_give_up=on_give_up,
            delivery=delivery,
            deliveries=[each.value for each in Delivery],
            concurrency=kwargs.get("concurrency"),
            others=self._channel_kwargs,
        )
        self._wants_shared = Delivery(delivery) is Delivery.SHARED
        if self._wants_shared and self.isolated_partitions:
            raise ImproperlyConfigured(
                f'{self.name}: delivery="shared" pays no heed to partitions, isolated or not'
            )
        self.delivery: SharedDelivery | None = None
        """While an agent with shared delivery works."""
        self.retries = retries
        self._on_give_up = on_give_up
        self._attempts: WeakKeyDictionary[Message, int] = WeakKeyDictionary()

    @cached_property
    def is_shared(self) -> bool:
        """Whether its delivery is shared. Where the broker has none of that it is ordered, which
        asks more of who shares the work and promises all that shared delivery does."""
        if not self._wants_shared:
            return False
        broker = self.app.transport.broker  # type: ignore[attr-defined] # ours, as this agent is
        if Capability.SHARED_DELIVERY in broker.capabilities:
            return True
        self.log.warning(
            '%s asks for delivery="shared", which %s has not: its events come in order, from the '
            "partitions of each worker",
            self.name,
            type(broker).__name__,
        )
        return False

    @property
    def processed_total(self) -> int:
        """Events that this agent has finished without an exception, in this process."""
        streams = [_active(actor.stream) for actor in self._actors]
        return sum(stream.processed_total for stream in streams)

    def stream(
        self,
        channel: ChannelT[Any] | None = None,
        active_partitions: set[TP] | None = None,
        **kwargs: Any,
    ) -> StreamT[Any]:
        if self.is_shared:
            return self._shared_stream(channel, **kwargs)
        if channel is None and isinstance(self.channel_iterator, Topic):
            channel = self.channel_iterator.clone(
                is_iterator=False,
                active_partitions=active_partitions,
                reader=self.name,
                concurrent=self.concurrency > 1,
            )
        return super().stream(channel, active_partitions, **kwargs)

    def _shared_stream(self, channel: ChannelT[Any] | None, **kwargs: Any) -> StreamT[Any]:
        if channel is None:  # the first of its instances, which the others share
            if not isinstance(self.channel_iterator, Topic):
                raise ImproperlyConfigured(f'{self.name}: delivery="shared" needs a topic')
            if self.channel_iterator.pattern:
                raise ImproperlyConfigured(
                    f'{self.name}: delivery="shared" needs topics by name, not by a pattern'
                )
            topic = self.channel_iterator.clone(is_iterator=True, reader=self.name, shared=True)
            channel = cast(Topic, topic)
            self.delivery = SharedDelivery(self, channel, beacon=self.beacon)
        return SharedStream(
            app=self.app,
            channel=channel,
            loop=self.loop,
            beacon=self.beacon,
            prefix=self.name,
            **kwargs,
        )

    async def ask_nowait(self, *args: Any, force: bool = True, **kwargs: Any) -> ReplyPromise:
        """As Faust's, which leaves it to others to wait for the answer.

        What waits for an answer leaves at once, see ``replies.py``. Without ``reply_to`` the answer
        comes to this application, and keeps the promise that is returned.
        """
        reply_to = kwargs.pop("reply_to", None) or self.app.conf.reply_to
        promise = await super().ask_nowait(*args, reply_to=reply_to, force=force, **kwargs)
        if promise.reply_to == self.app.conf.reply_to:
            replies = cast(ReplyConsumer, self.app._reply_consumer)  # type: ignore[attr-defined]
            await replies.add(promise.correlation_id, promise)
        return promise

    async def on_start(self) -> None:
        await super().on_start()
        if self.delivery is not None:
            await self.add_runtime_dependency(self.delivery)

    async def _replace_actor(self, service: ServiceT, index: int) -> ServiceT:
        # As Faust's, but as in _run_again.
        stream = _active(cast(Any, service).stream)
        self._as_before(stream)
        partitions, channel = stream.active_partitions, cast("ChannelT[Any]", stream.channel)
        return await self._start_one(
            index=index, active_partitions=partitions, stream=stream, channel=channel
        )

    async def restart(self) -> None:
        """Start its function anew. What it is in the middle of is handed out again.

        Faust's would leave behind what was read and not handed out yet.
        """
        if not self.started:
            await super().restart()
            return
        for aref in list(self._actors):
            task = cast("asyncio.Task[None]", aref.actor_task)
            if task.done():  # by cancel()
                coro = await self._run_again(aref)
                aref.actor_task = self.loop.create_task(self._execute_actor(coro, aref))
                cast(Service, aref).add_future(aref.actor_task)
            else:
                task.cancel()

    async def _execute_actor(self, coro: Awaitable[Any], aref: ActorRefT) -> None:
        _current_agent.set(self)
        try:
            while await self._run(coro, aref):
                coro = await self._run_again(aref)
        except Exception as error:
            # It failed outside of any event: Faust's supervisor decides.
            await aref.crash(error)
            self.supervisor.wakeup()

    async def _run(self, coro: Awaitable[Any], aref: ActorRefT) -> bool:
        """Run the agent's function to its end; whether it is to be started anew."""
        try:
            try:
                await _to_its_end(coro)
            except Exception as error:
                if not await self._settle_failure(aref, error):
                    raise
                return True
            return await self._settle_last(aref)
        except BaseException as error:
            # Also while a failure was being dealt with.
            stream = _active(aref.stream)
            if interrupted := stream.interrupted():
                stream.take_back(interrupted)
            stopping = self.should_stop or cast(Service, aref).should_stop or self._is_going_down()
            if stopping:
                stream.leave_channel()
            if stopping or not isinstance(error, asyncio.CancelledError):
                raise
            self.log.info("%s was cancelled; starting it again", self.name)
            _be_cancelled_no_more()
            return True

    def _is_going_down(self) -> bool:
        """Whether who would start it anew is cancelled too, as all are when a loop is closed."""
        tasks = cast("Iterable[asyncio.Task[None]]", cast(Service, self.supervisor)._futures)
        return any(task.cancelling() for task in tasks)

    async def _slurp(self, res: ActorRefT, it: AsyncIterator[Any]) -> None:
        # What it does on its way out is part of the event, and not left to the interpreter.
        async with aclosing(it) if isinstance(it, AsyncGenerator) else nullcontext():
            await super()._slurp(res, it)

    async def _reply(self, key: Any, value: Any, reply_to: str, correlation_id: str) -> None:
        if self._takes_answers(reply_to):
            await super()._reply(key, value, reply_to, correlation_id)
            return
        self.log.warning(
            "%s does not answer on %s, which is no topic of answers: it needs %r before its name, "
            "or value_type=ReqRepResponse in this application",
            self.name,
            printable(reply_to[:LONGEST_TOPIC]),
            self.app.conf.reply_to_prefix,
        )

    def _takes_answers(self, topic: str) -> bool:
        """Whether a question may name a topic for its answer. Any producer can ask, and must not
        write other topics that way. A question that redfaust has published may name any."""
        event = faust.current_event()
        if event is not None and getattr(event.message, "source", None) is not None:
            return True
        declared = (each for each in self.app.topics if topic in each.topics)
        return (
            topic == self.app.conf.reply_to
            or topic.startswith(self.app.conf.reply_to_prefix)
            or any(each.value_type is ReqRepResponse for each in cast("Iterable[Topic]", declared))
        )

    async def _settle_failure(self, aref: ActorRefT, error: Exception) -> bool:
        """Deal with what is in hand, one event or a batch. False if there is nothing."""
        stream = _active(aref.stream)
        failed = stream.interrupted()
        failpoints.point("agent.failed")
        if self._on_error is not None:
            await self._on_error(self, error)
        stream.current_event = None
        if not failed:
            return False
        if self.delivery is not None:
            for event in failed:
                await self.delivery.fail(stream, event, error)
            return True
        if state_backend_of(self.app) is None:
            await self._try_in_place(stream, failed, error)
            return True
        for event in failed:
            await self.fail(stream, event, error)
            stream.settle(event)
        failpoints.point("agent.parked")
        return True

    async def fail(self, stream: EventStream[Any], event: EventT[Any], error: Exception) -> None:
        """Have an event tried again later, or make it a dead letter; on return it may be finished.

        Without a database it is not tried again.
        """
        if self.delivery is not None:
            await self.delivery.fail(stream, event, error)
            return
        state_backend = state_backend_of(self.app)
        if state_backend is None:
            await self.dead_letter(event, error, attempts=1)
            return
        await state_backend.unit.parking.has_room()
        if counts(event):
            await self._park_or_give_up(state_backend, stream.reader, event, error)
        else:
            self.log.info("Failed after partitions moved; the event is delivered again")

    async def _park_or_give_up(
        self, state_backend: StateBackend, reader: str, event: EventT[Any], error: Exception
    ) -> None:
        attempts = attempts_of(event.message) + 1
        if isinstance(error, Postponed):
            self.log.warning("%s: the next attempt is in %.1f s", error, error.pause)
            failure = Failure(attempts - 1, error.pause, name_of(error), text_of(error))
            state_backend.unit.parking.park(reader, event.message, failure)
        elif self.retries.allow(attempts, error):
            pause = self.retries.pause(attempts)
            self.retried_total += 1
            line = line_of(error)
            self.log.info("%s: attempt %s failed, the next is in %.1f s", line, attempts, pause)
            failure = Failure(attempts, pause, name_of(error), text_of(error))
            state_backend.unit.parking.park(reader, event.message, failure)
        else:
            await self.dead_letter(event, error, attempts)

    async def _try_in_place(
        self, stream: Stream[Any], failed: list[EventT[Any]], error: Exception
    ) -> None:
        """Without a database there is nowhere to park events: everything behind them waits."""
        if isinstance(error, Postponed):
            stream.take_back(failed)
            await self.sleep(error.pause)
            return
        attempts = max(self._attempts.get(event.message, 0) for event in failed) + 1
        if not self.retries.allow(attempts, error):
            for event in failed:
                await self.dead_letter(event, error, attempts)
                stream.settle(event)
            return
        self.retried_total += 1
        for event in failed:
            self._attempts[event.message] = attempts
        stream.take_back(failed)
        await self.sleep(self.retries.pause(attempts))

    async def dead_letter(self, event: EventT[Any], error: Exception, attempts: int) -> None:
        """Make an event a dead letter; on return it may be finished."""
        if self._on_give_up is not None:
            scope = open_scope([event], self.name, outlet_of(event.message))
            try:
                await self._on_give_up(event, error)
            except Exception:
                scope.drop()
                self.log.exception("%s failed while it gave up an event", self.name)
            else:
                scope.join()
        dead_letter(self.app, event.message, error, agent=self.name, attempts=attempts)

    async def _settle_last(self, aref: ActorRefT) -> bool:
        """Finish the event during which the agent's function returned. False: it is to end."""
        stream = _active(aref.stream)
        had_any = stream.have_done()
        stream.current_event = None
        stopping = self.should_stop or self.app.should_stop
        if stopping or stream.should_stop or stream.told_to_end:
            return False
        if not had_any:
            self.log.warning("%s returned without an event; starting it again", self.name)
            await self.sleep(RESTART_AFTER)
        return True

    async def _run_again(self, aref: ActorRefT) -> Awaitable[Any]:
        stream = _active(aref.stream)
        await stream.let_go()
        self._as_before(stream)
        # The active one: what the function derived from its stream before is derived for good.
        result = self.fun(stream)
        if isinstance(result, AsyncIterable):
            return self._slurp(aref, aiter(result))
        return cast("Awaitable[Any]", result)

    def _as_before(self, stream: Stream[Any]) -> None:
        """Have a stream be as it was before the agent's function added its processors, which it is
        to do again."""
        own = self._maybe_unwrap_reply_request
        stream._processors[:] = [each for each in stream._processors if each == own]


def _active(stream: StreamT[Any]) -> Stream[Any]:
    """What an agent reads: it may have derived that from the one it was given."""
    return cast(Stream[Any], stream.get_active_stream())


async def _to_its_end(coro: Awaitable[Any]) -> None:
    """Run an agent's function. A cancellation is one if it is meant for this task."""
    try:
        await coro
    except asyncio.CancelledError as error:
        if not is_cancelled():
            raise AwaitedCancelled(
                "what the agent awaited was cancelled, and the agent was not"
            ) from error
        raise
    if is_cancelled():  # in the middle of an event, perhaps, and it said nothing of it
        raise asyncio.CancelledError


def _be_cancelled_no_more() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
