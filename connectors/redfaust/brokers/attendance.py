"""Membership of a process that owns no partitions, such as a relay: it is there, or it is lost.

A member sends heartbeats, enters itself into the group's assignment, and strikes out members that
have been silent, which are then remembered as lost. Only people read that, and no program decides
by it, so the broker's clock may say which member is silent.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping

from redfaust.brokers import assignor
from redfaust.brokers.broker import SILENCE, Broker, GroupState, Heartbeat
from redfaust.errors import BrokerError

BEAT_EVERY = 1.5
"""Seconds between two heartbeats: four fit into the silence after which a member counts as lost."""

ANSWER_WITHIN = 3.0
"""Seconds that the broker is given to answer."""

LEAVE_FOR = 0.5
"""Seconds that leaving may take."""

logger = logging.getLogger(__name__)


class Attendance:
    """Keeps a process among the members of a group.

    ``info`` is asked for what the process tells of itself, as JSON, at each heartbeat.
    """

    def __init__(
        self, broker: Broker, group: str, name: str, info: Callable[[], Mapping[str, object]]
    ) -> None:
        self.member = f"{name}{assignor.SEPARATOR}{secrets.token_hex(3)}"
        self._broker = broker
        self._group = group
        self._info = info
        self._heartbeats_sent = 0

    async def run(self) -> None:
        """Attend until cancelled, then leave. A broker that is away makes no difference."""
        try:
            while True:
                await self._attend()
                await asyncio.sleep(BEAT_EVERY)
        finally:
            await self._leave()

    async def _attend(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                self._heartbeats_sent += 1
                heartbeat = Heartbeat(self._heartbeats_sent, info=self._info())
                group_state = await self._broker.heartbeat(self._group, self.member, heartbeat)
                silent = silent_members(group_state)
                assignment = assignor.attend(
                    group_state.assignment, self.member, silent=silent, now=time.time()
                )
                if assignment != group_state.assignment:
                    await self._broker.reassign(
                        self._group, assignment, version=group_state.version, silent=silent
                    )
        except (BrokerError, TimeoutError) as error:
            logger.debug("%s was not heard: %s", self.member, error)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_FOR):
                while not await self._strike_out_this_one():
                    pass
        except (BrokerError, TimeoutError) as error:
            logger.debug("%s will be missed: %s", self.member, error)

    async def _strike_out_this_one(self) -> bool:
        group_state = await self._broker.group_state(self._group)
        last = (
            group_state.heartbeats[self.member].number
            if self.member in group_state.heartbeats
            else 0
        )
        assignment = assignor.without(group_state.assignment, self.member, time.time())
        return await self._broker.reassign(
            self._group, assignment, version=group_state.version, silent={self.member: last}
        )


def silent_members(group_state: GroupState) -> Mapping[str, int]:
    """The members in the assignment that have been silent for :data:`SILENCE` seconds by the
    broker's clock, with the numbers of their last heartbeats; 0 for one that has none."""
    return {
        member: group_state.heartbeats[member].number if member in group_state.heartbeats else 0
        for member in group_state.assignment.members
        if member not in group_state.heartbeats or group_state.heartbeats[member].age > SILENCE
    }
