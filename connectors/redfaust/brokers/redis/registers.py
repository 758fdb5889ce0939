"""Who is a member of a group and owns what, in two keys of one slot.

The register is a short stream, of which the last entry counts: its ID is the version, whoever waits
for another one reads the stream, and those before it show how it came about. The beats are a hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from redis.asyncio import Redis

from redfaust.brokers import beats
from redfaust.brokers.broker import Beat, Roll
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import reading, script
from redfaust.brokers.redis.stored import Malformed, beat_entry, of_type, register_entry
from redfaust.brokers.shares import Register, as_json

KINDS = "register (a stream) or beats (a hash)"

KEPT = 20
"""Versions of a register that are kept to look at."""

FORGET_AFTER = 60_000
"""Milliseconds of silence after which a member's last beat is deleted: of one that never became a
member, since the others strike out those that did."""


class Registers:
    """The registers of all groups. See :class:`~redfaust.brokers.broker.Broker`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._beat = script(client, "beat")
        self._reassign = script(client, "reassign")

    async def beat(self, group: str, member: str, beat: Beat) -> Roll:
        """Note a member's beat."""
        said = orjson.dumps(beats.as_json(beat))
        with of_type(keys.register(group), KINDS):
            reply = await self._beat(
                keys=_keys(group), args=[member, beat.number, said, FORGET_AFTER]
            )
        roll, _ = _decode_roll(group, reply)
        return roll

    async def roll(self, group: str) -> Roll:
        """What is known now."""
        roll, _ = await self.read(group)
        return roll

    async def read(self, group: str) -> tuple[Roll, list[str]]:
        """The same, and what is wrong about what else stands there."""
        with of_type(keys.register(group), KINDS):
            reply = await self._client.execute_command(  # type: ignore[no-untyped-call]
                *reading(self._beat, _keys(group), "", 0, b"", FORGET_AFTER)
            )
        return _decode_roll(group, reply)

    async def write(
        self, group: str, register: Register, version: str, silent: Mapping[str, int]
    ) -> bool:
        """Write the register, unless something has changed."""
        dead = [each for pair in silent.items() for each in pair]
        with of_type(keys.register(group), KINDS):
            done = await self._reassign(
                keys=_keys(group), args=[version, encode(register), KEPT, *dead]
            )
        return bool(done)

    async def changed(self, group: str, version: str, wait: float) -> None:
        """Wait for another version. ``wait`` is to be shorter than what a reply may take."""
        block = max(1, int(wait * 1000))
        with of_type(keys.register(group), "register (a stream)"):
            await self._client.xread({keys.register(group): version or "0"}, count=1, block=block)


def _keys(group: str) -> list[str]:
    return [keys.register(group), keys.beats(group)]


def encode(register: Register) -> bytes:
    """A register as it is stored."""
    return orjson.dumps(as_json(register))


def _decode_roll(group: str, reply: Any) -> tuple[Roll, list[str]]:
    entries, flat, now = reply
    version, register, wrong = "", Register(), []
    for entry in entries:
        try:
            version, register = register_entry(group, entry)
        except Malformed as error:  # members write it anew
            version = entry[0].decode()
            wrong.append(str(error))
    heard: dict[str, Beat] = {}
    for name, value in sorted(zip(flat[::2], flat[1::2], strict=True)):
        try:
            sender, beat = beat_entry(name, value, now)
            heard[sender] = beat
        except Malformed as error:
            wrong.append(str(error))
    return Roll(version, register, heard), wrong
