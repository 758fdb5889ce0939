"""Agents that a failing event cannot stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable
from typing import Any, cast

from faust.agents.agent import Agent as FaustAgent
from faust.agents.agent import _current_agent
from faust.types import EventT
from faust.types.agents import ActorRefT

from connectors.processing.failures import set_aside
from connectors.processing.stream import Stream


class Agent(FaustAgent):
    """Faust's agent with another answer to an exception.

    Faust acknowledges the event that made an agent raise, and forgets it. Here the event is set
    aside as a dead letter first, and the agent's function is started anew on the same stream.
    """

    mundane_level = "debug"

    failed_total = 0
    """Events that this agent could not process, in this process."""

    @property
    def processed_total(self) -> int:
        """Events that were handed to this agent, in this process."""
        streams = [cast(Stream[Any], a.stream.get_active_stream()) for a in self._actors]
        return sum(stream.events_total for stream in streams)

    async def _execute_actor(self, coro: Awaitable[Any], aref: ActorRefT) -> None:
        _current_agent.set(self)
        try:
            while True:
                try:
                    await coro
                except Exception as error:
                    if not await self._settle_failure(aref, error):
                        raise
                    coro = self._run_again(aref)
                else:
                    self._settle_last(aref)
                    return
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
        """Set the current event aside and finish it. False if there is no such event."""
        stream = cast(Stream[Any], aref.stream.get_active_stream())
        event: EventT[Any] | None = stream.current_event
        if self._on_error is not None:
            await self._on_error(self, error)
        if event is None:
            return False
        self.failed_total += 1
        await set_aside(self.app, event.message, error, agent=self.name)
        stream.settle(event)
        stream.current_event = None
        return True

    def _settle_last(self, aref: ActorRefT) -> None:
        """Finish the event during which the agent's function returned."""
        stream = cast(Stream[Any], aref.stream.get_active_stream())
        event: EventT[Any] | None = stream.current_event
        if event is not None:
            stream.settle(event)

    def _run_again(self, aref: ActorRefT) -> Awaitable[Any]:
        result = self.fun(aref.stream)
        if isinstance(result, AsyncIterable):
            return self._slurp(aref, aiter(result))
        return cast("Awaitable[Any]", result)
