"""Agents that a failing event cannot stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable
from typing import Any, cast

from faust.agents.agent import Agent as FaustAgent
from faust.agents.agent import _current_agent
from faust.types import TP, ChannelT, StreamT
from faust.types.agents import ActorRefT

from connectors.processing.failures import set_aside
from connectors.processing.stream import Stream
from connectors.processing.topic import Topic

RESTART_AFTER = 1.0
"""Seconds until a function that returned without having read anything is started again."""


class Agent(FaustAgent):
    """Faust's agent with another answer to an exception, and to a return.

    Faust acknowledges the event that made an agent raise, and forgets it. Here the event is set
    aside as a dead letter first, and the agent's function is started anew on the same stream. So
    it is when it returns: nobody else would read what comes for it.
    """

    mundane_level = "debug"

    failed_total = 0
    """Events that this agent could not process, in this process."""

    @property
    def processed_total(self) -> int:
        """Events that were handed to this agent, in this process."""
        streams = [cast(Stream[Any], a.stream.get_active_stream()) for a in self._actors]
        return sum(stream.events_total for stream in streams)

    def stream(
        self,
        channel: ChannelT[Any] | None = None,
        active_partitions: set[TP] | None = None,
        **kwargs: Any,
    ) -> StreamT[Any]:
        if channel is None and isinstance(self.channel_iterator, Topic):
            channel = self.channel_iterator.clone(
                is_iterator=False,
                active_partitions=active_partitions,
                reader=self.name,
                concurrent=self.concurrency > 1,
            )
        return super().stream(channel, active_partitions, **kwargs)

    async def _execute_actor(self, coro: Awaitable[Any], aref: ActorRefT) -> None:
        _current_agent.set(self)
        try:
            while True:
                try:
                    await coro
                except Exception as error:
                    if not await self._settle_failure(aref, error):
                        raise
                else:
                    if not await self._settle_last(aref):
                        return
                coro = await self._run_again(aref)
        except asyncio.CancelledError as cancelled:
            if self.should_stop:
                raise
            self.log.info("Restarting on rebalance")
            await aref.crash(cancelled)
            self.supervisor.wakeup()
        except Exception as error:
            # It failed outside of any event: Faust's supervisor decides.
            await aref.crash(error)
            self.supervisor.wakeup()

    async def _settle_failure(self, aref: ActorRefT, error: Exception) -> bool:
        """Set aside what is in hand, one event or a batch. False if there is nothing."""
        stream = cast(Stream[Any], aref.stream.get_active_stream())
        failed = list(stream.in_hand)
        for scope in stream.in_hand.values():
            scope.drop()
        if self._on_error is not None:
            await self._on_error(self, error)
        for event in failed:
            if event.message.generation_id == self.app.consumer_generation_id:
                self.failed_total += 1
                set_aside(self.app, event.message, error, agent=self.name)
            else:
                self.log.info("Failed after partitions moved; the event is delivered again")
            stream.settle(event)
        stream.current_event = None
        return bool(failed)

    async def _settle_last(self, aref: ActorRefT) -> bool:
        """Finish the event during which the agent's function returned. False: it is to end."""
        stream = cast(Stream[Any], aref.stream.get_active_stream())
        last = list(stream.in_hand)
        for event in last:
            stream.settle(event)
        stream.current_event = None
        if self.should_stop or stream.should_stop or stream.told_to_end:
            return False
        if not last:
            self.log.warning("%s returned without an event; starting it again", self.name)
            await self.sleep(RESTART_AFTER)
        return True

    async def _run_again(self, aref: ActorRefT) -> Awaitable[Any]:
        stream = cast(Stream[Any], aref.stream.get_active_stream())
        await stream.let_go()
        # The active one: what the function derived from its stream before is derived for good.
        result = self.fun(stream)
        if isinstance(result, AsyncIterable):
            return self._slurp(aref, aiter(result))
        return cast("Awaitable[Any]", result)
