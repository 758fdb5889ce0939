"""The assignment of a group and its members' heartbeats, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import GroupState, Heartbeat


class Registry:
    """What :class:`~redfaust.brokers.broker.Broker` says of one group."""

    def __init__(self) -> None:
        self._assignment = GroupAssignment()
        self._version = 0
        self._heartbeats: dict[str, tuple[float, Heartbeat]] = {}
        self._written = asyncio.Event()

    def heartbeat(self, member: str, heartbeat: Heartbeat) -> GroupState:
        """Note a member's heartbeat."""
        self._heartbeats[member] = (time.monotonic(), heartbeat)
        return self.group_state()

    def group_state(self) -> GroupState:
        """What is known now."""
        now = time.monotonic()
        heartbeats = {
            name: heartbeat._replace(age=now - heard)
            for name, (heard, heartbeat) in sorted(self._heartbeats.items())
        }
        return GroupState(str(self._version), self._assignment, heartbeats)

    def write(self, assignment: GroupAssignment, version: str, silent: Mapping[str, int]) -> bool:
        """Write the assignment, unless something has changed."""
        if version != str(self._version):
            return False
        if any(self._number_of(member) != number for member, number in silent.items()):
            return False
        for member in silent:
            self._heartbeats.pop(member, None)
        self._assignment, self._version = assignment, self._version + 1
        self._written.set()
        self._written = asyncio.Event()
        return True

    def _number_of(self, member: str) -> int:
        return self._heartbeats[member][1].number if member in self._heartbeats else 0

    async def changed(self, version: str, wait: float) -> None:
        """Wait for another version."""
        if version != str(self._version):
            return
        try:
            async with asyncio.timeout(wait):
                await self._written.wait()
        except TimeoutError:
            return
