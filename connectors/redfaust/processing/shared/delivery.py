"""Delivers a topic's events to one agent of this worker, in competition with all others.

A worker claims no more than its agent can begin at once, so that nothing waits here while another
worker is free. What it has claimed it renews by a timer, whatever the agent does meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from faust.types import TP, AppT, EventT
from mode import Service

from redfaust import failpoints
from redfaust.brokers import share_group
from redfaust.brokers.broker import Broker, TopicSpec
from redfaust.brokers.share_group import RENEW_EVERY, Claim, shared_group
from redfaust.errors import (
    BrokerError,
    DatabaseError,
    GroupGone,
    MaxDeliveriesExceeded,
)
from redfaust.processing.dead_letters import addressee_of, excused, line_of
from redfaust.processing.failures import dead_letter
from redfaust.processing.queue import EventQueue
from redfaust.processing.shared.acknowledger import Acknowledger
from redfaust.processing.shared.in_flight import InFlight, message_of, offsets_of
from redfaust.processing.shared.inbox import Finished, Known, Noting
from redfaust.processing.shared.message import SharedMessage, State
from redfaust.processing.state_backend import state_backend_of
from redfaust.processing.topic import Topic

if TYPE_CHECKING:
    from redfaust.processing.agent import Agent
    from redfaust.processing.consumer_handle import ConsumerHandle
    from redfaust.processing.event_stream import EventStream
    from redfaust.processing.producer import Producer

TAKE_WAIT = 1.0
"""Seconds that taking waits for news."""

TAKE_OVER_EVERY = 2.0
"""Seconds between two looks for entries whose claim has ended."""

MAX_POSTPONED = 1000
"""Events of one agent that wait here for another attempt. With more, nothing new is begun."""

HAND_BYTES = 64 << 20
"""Bytes of the events in progress of one agent, those that wait for another attempt included, with
which nothing new is begun."""

MAX_DELIVERIES = 16
"""Times that an event may be claimed without being finished or noted as failed. It is taken for one
that ends the process that works on it."""

DRAIN_FOR = 3.0
"""Seconds that events in progress are given to finish when the worker stops."""

GIVE_BACK_FOR = 1.0
"""Seconds that giving events back may take."""

GONE_AFTER = 6.0
"""Seconds after which a worker that stops waits for neither any more."""

RETRY_EVERY = 0.5
"""Seconds between two attempts while broker or database are away."""

UNACKNOWLEDGED = (State.WAITING, State.IN_PROGRESS, State.POSTPONED, State.FINISHED)
"""Messages in these states are held on to, and given back at the end."""

FORGET_EVERY = 60.0
"""Seconds between two rounds in which old events are forgotten."""


class SharedDelivery(Service):
    """Of one agent, from its start to its end."""

    mundane_level = "debug"

    _acknowledger: Acknowledger

    def __init__(self, agent: Agent, channel: Topic, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.agent = agent
        self.app = agent.app
        self._channel = channel
        self._queue = cast(EventQueue, channel.queue)
        self._group = shared_group(self.app.conf.id, agent.name)
        self._in_flight = InFlight()
        self._inbox: Noting | None = None
        self._changed = asyncio.Event()
        """Set when there may be more room than before."""
        self._begun = False
        self._closing = asyncio.Event()
        self._delivered_last = asyncio.Event()
        self._look_at = 0.0
        """When to look for what others have left, by the monotonic clock."""
        self._renewed_at = time.monotonic()
        self._drained = asyncio.Event()
        self._share_group = self._broker.share_group(self._group, self._consumer.member)

    @property
    def _broker(self) -> Broker:
        return cast("Broker", self.app.transport.broker)  # type: ignore[attr-defined]

    @property
    def _consumer(self) -> ConsumerHandle:
        return cast("ConsumerHandle", self.app.consumer)

    @Service.task
    async def _work(self) -> None:
        await self.app.tables.wait_until_tables_registered()
        await self._begin()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._acknowledger.run())
                tasks.create_task(self._deliver())
                tasks.create_task(self._renew())
                tasks.create_task(self._drain_when_the_app_stops())
                if state_backend_of(self.app) is not None:
                    tasks.create_task(self._forget_finished())
        finally:
            self._drained.set()

    async def _begin(self) -> None:
        while not await self._has_joined():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(RETRY_EVERY)
        store = None
        if (state_backend := state_backend_of(self.app)) is not None:
            assert self._inbox is not None
            store = state_backend.shared_store(
                self.agent.name, self._inbox, be_sure_of_claims=self._be_sure_of_claims
            )
        self._acknowledger = Acknowledger(
            self._in_flight,
            self._share_group,
            store,
            sent=cast("Producer", self.app.producer).has_sent,
        )
        self._begun = True

    async def _has_joined(self) -> bool:
        from_start = self.app.conf.consumer_auto_offset_reset == "earliest"
        try:
            await self._join(from_start=from_start)
        except (BrokerError, DatabaseError) as error:
            self.log.warning("%s waits to join its group: %s", self.agent.name, error)
            return False
        return True

    async def _join(self, *, from_start: bool) -> None:
        partitions = self._channel.partitions or self.app.conf.topic_partitions
        for topic in self._channel.topics:
            await self._broker.create_topic(TopicSpec(topic, partitions))
        finished: Mapping[TP, int] = {}
        if (state_backend := state_backend_of(self.app)) is not None:
            log = await self._broker.identity()
            if self._inbox is None:
                self._inbox = state_backend.inbox(self._group, log)
            self._inbox.log = log
            finished = await self._inbox.floors()
        await self._share_group.join(self._channel.topics, from_start=from_start, finished=finished)

    # -- events come -------------------------------------------------------------------------

    async def _deliver(self) -> None:
        try:
            while not self._closing.is_set():
                self._changed.clear()
                room = self._room()
                due = self._in_flight.take_due(room)
                self._queue.put_first(due)
                room -= len(due)
                if room <= 0:
                    await self._wait_for_a_change(TAKE_WAIT)
                elif self._may_claim():
                    await self._accept(await self._claim(room))
                else:
                    await self._wait_for_a_change(min(TAKE_WAIT, self._in_flight.seconds_until_due))
        finally:
            self._delivered_last.set()

    def _room(self) -> int:
        """How many events could be begun now."""
        return 0 if self._acknowledger.waits else self.agent.concurrency - self._in_flight.busy

    def _may_claim(self) -> bool:
        """Whether no more wait here than should."""
        return self._in_flight.postponed < MAX_POSTPONED and self._in_flight.size < HAND_BYTES

    async def _wait_for_a_change(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _claim(self, room: int) -> Sequence[Claim]:
        try:
            if time.monotonic() >= self._look_at:
                if claims := await self._share_group.claim_stale(room):
                    failpoints.point("shared.claimed_stale")
                    return claims
                self._look_at = time.monotonic() + TAKE_OVER_EVERY
            wait = min(TAKE_WAIT, max(0.0, self._in_flight.seconds_until_due))
            claims = await self._share_group.claim(room, wait=wait)
        except GroupGone as error:
            self.log.warning("%s begins anew with what is there: %s", self.agent.name, error)
            await self._join_again()
            return ()
        except BrokerError as error:
            self.log.warning("%s waits for the broker: %s", self.agent.name, error)
            await asyncio.sleep(RETRY_EVERY)
            return ()
        if claims:
            failpoints.point("shared.claimed")
        return claims

    async def _join_again(self) -> None:
        """From the oldest entries on, but for those that the inbox says are finished."""
        try:
            await self._join(from_start=True)
        except (BrokerError, DatabaseError) as error:
            self.log.warning("%s waits to join its group: %s", self.agent.name, error)
            await asyncio.sleep(RETRY_EVERY)

    async def _accept(self, claims: Sequence[Claim]) -> None:
        messages = []
        for claim in claims:
            # Its own claim may have ended unnoticed, where the event loop was held up for long.
            if not self._in_flight.holds(claim.tp, claim.record.offset):
                message = SharedMessage(claim, self._finish)
                self._in_flight.add(message)
                messages.append(message)
        if messages:
            known = await self._look_up(messages)
            events = [self._as_event(message, known.get(message)) for message in messages]
            self._queue.put_batch([event for event in events if event is not None])

    async def _look_up(self, messages: Sequence[SharedMessage]) -> dict[SharedMessage, Known]:
        while self._inbox is not None and not self._closing.is_set():
            try:
                return dict(await self._inbox.look_up(messages))
            except DatabaseError as error:
                self.log.warning("%s waits for the database: %s", self.agent.name, error)
                await asyncio.sleep(RETRY_EVERY)
        return {}

    def _as_event(self, message: SharedMessage, known: Known | None) -> EventT[Any] | None:
        """What the agent is to get now, if anything."""
        if message.state is State.LOST or self._closing.is_set():
            return None
        if (known is not None and known.due_in is None) or not self._is_for_this_agent(message):
            self._acknowledger.skip(message)
            return None
        if known is not None:
            message.attempts = known.attempts
        events, refused = self._channel.decode_batch([message])
        for _, error in refused:
            attempts = message.attempts + 1
            dead_letter(self.app, message, error, agent=self.agent.name, attempts=attempts)
            message.finish()
            return None
        [event] = events
        if message.deliveries > MAX_DELIVERIES:
            message.state = State.IN_PROGRESS
            self.add_future(self._give_up_at_once(event))
            return None
        if known is not None and known.due_in is not None and known.due_in > 0:
            self._in_flight.postpone(event, known.due_in)
            return None
        return event

    def _is_for_this_agent(self, message: SharedMessage) -> bool:
        addressee = addressee_of(message)
        if addressee is None:
            return True
        readers = readers_of(self.app, message.topic)
        return self.agent.name not in excused(self.app.conf.id, readers, addressee)

    # -- events go ---------------------------------------------------------------------------

    def _finish(self, message: SharedMessage) -> None:
        self._changed.set()
        if message.state is State.LOST:
            self.log.info("%s finished an event that is another's by now", self.agent.name)
        else:
            self._acknowledger.finish(message)

    async def fail(self, stream: EventStream[Any], event: EventT[Any], error: Exception) -> None:
        """Deal with an event that made the agent raise: try it again later, or give it up."""
        message = message_of(event)
        attempts = message.attempts + 1
        retries = self.agent.retries
        if message.state is State.LOST:
            stream.settle(event)
        elif retries.allow(attempts, error):
            pause = retries.pause(attempts)
            line = line_of(error)
            self.log.info("%s: attempt %s failed, the next is in %.1f s", line, attempts, pause)
            message.attempts = attempts
            del stream.in_hand[event]
            self._in_flight.postpone(event, pause)
            self.agent.retried_total += 1
            self._acknowledger.fail(message, pause, error)
            self._changed.set()
            await self._share_group.wake()
        else:
            await self.agent.dead_letter(event, error, attempts)
            stream.settle(event)
        failpoints.point("shared.failed")

    async def _give_up_at_once(self, event: EventT[Any]) -> None:
        message = message_of(event)
        error = MaxDeliveriesExceeded(
            f"claimed {message.deliveries} times and never finished: does it end the process that "
            "works on it? Mend that, then replay it"
        )
        await self.agent.dead_letter(event, error, message.attempts + 1)
        message.finish()

    # -- claims ------------------------------------------------------------------------------

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY)
            try:
                await self._renew_claims()
            except BrokerError as error:
                self.log.warning("%s cannot renew its claims: %s", self.agent.name, error)

    async def _renew_claims(self) -> None:
        asked = time.monotonic()
        held = self._in_flight.find(*UNACKNOWLEDGED)
        lost = self._in_flight.at(await self._share_group.renew(offsets_of(held)))
        self._renewed_at = asked
        if lost:
            self.log.warning("%s has lost %s events to other workers", self.agent.name, len(lost))
            self._in_flight.lose(lost)
            self._changed.set()

    async def _be_sure_of_claims(self) -> None:
        """Ask, if nothing was heard for so long that they may be somebody else's."""
        if time.monotonic() - self._renewed_at > share_group.CLAIM_FOR:
            await self._renew_claims()

    async def _forget_finished(self) -> None:
        while True:
            await asyncio.sleep(FORGET_EVERY)
            try:
                await self._forget()
            except (BrokerError, DatabaseError) as error:
                self.log.warning("%s cannot forget old events now: %s", self.agent.name, error)

    async def _forget(self) -> None:
        assert self._inbox is not None
        floors = await self._share_group.finished()
        bounds = await self._broker.bounds(floors)
        await self._inbox.forget(
            {tp: Finished(floor, bounds[tp][1]) for tp, floor in floors.items() if tp in bounds}
        )

    # -- the end -----------------------------------------------------------------------------

    async def drain(self) -> None:
        """Take no more events, let those in progress finish, and give the others back."""
        if self._begun:
            self._closing.set()
            with suppress(TimeoutError):  # it is bounded itself, unless a cancellation got lost
                async with asyncio.timeout(GONE_AFTER):
                    await self._drained.wait()

    async def _drain_when_the_app_stops(self) -> None:
        await cast(Service, self.app).wait_for_stopped(self._closing.wait())
        drain_by = asyncio.get_running_loop().time() + DRAIN_FOR
        self._closing.set()
        self._changed.set()
        await self._share_group.wake()
        try:
            async with asyncio.timeout_at(drain_by):
                await self._delivered_last.wait()
                await self._release(State.WAITING, State.POSTPONED)
                while self._in_flight.find(State.IN_PROGRESS):
                    self._changed.clear()
                    await self._changed.wait()
                await self._acknowledger.idle.wait()
        except TimeoutError:
            self.log.warning("Events in progress did not finish in time: others get them")
        finally:
            try:
                await self._release(*UNACKNOWLEDGED)
            finally:
                self._drained.set()

    async def _release(self, *states: State) -> None:
        messages = self._in_flight.find(*states)
        self._in_flight.lose(messages)
        try:
            async with asyncio.timeout(GIVE_BACK_FOR):
                await self._share_group.release(offsets_of(messages))
            failpoints.point("shared.given_back")
        except (BrokerError, TimeoutError) as error:
            self.log.warning("Events are taken over when their claims end: %s", error)

    async def on_stop(self) -> None:
        await self.drain()
        await self._share_group.close()


def deliveries_of(app: AppT) -> list[SharedDelivery]:
    """Those of an application's agents that have one, in the order of their declaration."""
    found = (getattr(agent, "delivery", None) for agent in app.agents.values())
    return [delivery for delivery in found if isinstance(delivery, SharedDelivery)]


def readers_of(app: AppT, topic: str) -> set[str]:
    """The agents that read a topic, by name, however it is delivered to them."""
    return {agent.name for agent in app.agents.values() if topic in agent.get_topic_names()}
