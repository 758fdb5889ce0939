"""The register of a group and its members' beats, in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from redfaust.brokers.broker import Beat, Roll
from redfaust.brokers.shares import Register


class Registry:
    """What :class:`~redfaust.brokers.broker.Broker` says of one group."""

    def __init__(self) -> None:
        self._register = Register()
        self._version = 0
        self._beats: dict[str, tuple[float, Beat]] = {}
        self._written = asyncio.Event()

    def beat(self, member: str, beat: Beat) -> Roll:
        """Note a member's beat."""
        self._beats[member] = (time.monotonic(), beat)
        return self.roll()

    def roll(self) -> Roll:
        """What is known now."""
        now = time.monotonic()
        beats = {
            name: beat._replace(age=now - heard)
            for name, (heard, beat) in sorted(self._beats.items())
        }
        return Roll(str(self._version), self._register, beats)

    def write(self, register: Register, version: str, silent: Mapping[str, int]) -> bool:
        """Write the register, unless something has changed."""
        if version != str(self._version):
            return False
        if any(self._number_of(member) != number for member, number in silent.items()):
            return False
        for member in silent:
            self._beats.pop(member, None)
        self._register, self._version = register, self._version + 1
        self._written.set()
        self._written = asyncio.Event()
        return True

    def _number_of(self, member: str) -> int:
        return self._beats[member][1].number if member in self._beats else 0

    async def changed(self, version: str, wait: float) -> None:
        """Wait for another version."""
        if version != str(self._version):
            return
        try:
            async with asyncio.timeout(wait):
                await self._written.wait()
        except TimeoutError:
            return
