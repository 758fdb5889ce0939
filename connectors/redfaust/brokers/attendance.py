"""Membership of a process that owns no partitions, such as a relay: it is there, or it is lost.

A member beats, enters itself into the group's register, and strikes out members that have been
silent, which are then remembered as lost. Only people read that, and no program
decides by it, so the broker's clock may say which member is silent.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping

from redfaust.brokers import shares
from redfaust.brokers.broker import SILENCE, Beat, Broker, Roll
from redfaust.errors import BrokerError

BEAT_EVERY = 1.5
"""Seconds between two beats: four fit into the silence after which a member counts as lost."""

ANSWER_WITHIN = 3.0
"""Seconds that the broker is given to answer."""

LEAVE_FOR = 0.5
"""Seconds that leaving may take."""

logger = logging.getLogger(__name__)


class Attendance:
    """Keeps a process among the members of a group.

    ``info`` is asked for what the process tells of itself, as JSON, at each beat.
    """

    def __init__(
        self, broker: Broker, group: str, name: str, info: Callable[[], Mapping[str, object]]
    ) -> None:
        self.member = f"{name}{shares.SEPARATOR}{secrets.token_hex(3)}"
        self._broker = broker
        self._group = group
        self._info = info
        self._beaten = 0

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
                self._beaten += 1
                beat = Beat(self._beaten, info=self._info())
                roll = await self._broker.beat(self._group, self.member, beat)
                silent = silent_members(roll)
                register = shares.attend(roll.register, self.member, silent=silent, now=time.time())
                if register != roll.register:
                    await self._broker.reassign(
                        self._group, register, version=roll.version, silent=silent
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
        roll = await self._broker.roll(self._group)
        last = roll.beats[self.member].number if self.member in roll.beats else 0
        register = shares.without(roll.register, self.member, time.time())
        return await self._broker.reassign(
            self._group, register, version=roll.version, silent={self.member: last}
        )


def silent_members(roll: Roll) -> Mapping[str, int]:
    """The members in the register that have not beaten for :data:`SILENCE` seconds by the broker's
    clock, with the numbers of their last beats; 0 for one that has none."""
    return {
        member: roll.beats[member].number if member in roll.beats else 0
        for member in roll.register.members
        if member not in roll.beats or roll.beats[member].age > SILENCE
    }
