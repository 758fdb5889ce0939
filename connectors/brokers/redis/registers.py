"""Who is a member of a group and owns what, in two keys of one slot.

The register is a short stream, of which the last entry counts: its ID is the version, whoever waits
for another one reads the stream, and those before it show how it came about. The beats are a hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson
from redis.asyncio import Redis

from connectors.brokers.broker import Beat, Roll
from connectors.brokers.redis import keys
from connectors.brokers.redis.client import script
from connectors.brokers.shares import Register, as_json, from_json

KEPT = 20
"""Versions of a register that are kept to look at."""

FORGET_AFTER = 60_000
"""Milliseconds of silence after which a member's last beat is deleted: of one that never became a
member, since the others strike out those that did."""


class Registers:
    """The registers of all groups. See :class:`~connectors.brokers.broker.Broker`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._beat = script(client, "beat")
        self._reassign = script(client, "reassign")

    async def beat(self, group: str, member: str, beat: Beat) -> Roll:
        """Note a member's beat."""
        said = orjson.dumps({"counts": sorted(beat.counts), "info": beat.info})
        reply = await self._beat(keys=_keys(group), args=[member, beat.number, said, FORGET_AFTER])
        return _decode_roll(reply)

    async def roll(self, group: str) -> Roll:
        """What is known now."""
        keys = _keys(group)
        # Read-only, for those who may do no more.
        reply = await self._client.execute_command(  # type: ignore[no-untyped-call]
            "EVAL_RO", self._beat.script, len(keys), *keys, "", 0, b"", FORGET_AFTER
        )
        return _decode_roll(reply)

    async def write(
        self, group: str, register: Register, version: str, silent: Mapping[str, int]
    ) -> bool:
        """Write the register, unless something has changed."""
        dead = [each for pair in silent.items() for each in pair]
        done = await self._reassign(
            keys=_keys(group), args=[version, encode(register), KEPT, *dead]
        )
        return bool(done)

    async def changed(self, group: str, version: str, wait: float) -> None:
        """Wait for another version. ``wait`` is to be shorter than what a reply may take."""
        block = max(1, int(wait * 1000))
        await self._client.xread({keys.register(group): version or "0"}, count=1, block=block)


def _keys(group: str) -> list[str]:
    return [keys.register(group), keys.beats(group)]


def encode(register: Register) -> bytes:
    """A register as it is stored."""
    return orjson.dumps(as_json(register))


def _decode_roll(reply: Any) -> Roll:
    entries, flat, now = reply
    beats = dict(zip(flat[::2], flat[1::2], strict=True))
    version, register = _decode_entry(entries[0]) if entries else ("", Register())
    decoded = {name.decode(): _decode_beat(beats[name], now) for name in sorted(beats)}
    heard = {name: beat for name, beat in decoded.items() if beat is not None}
    return Roll(version, register, heard)


def _decode_entry(entry: Any) -> tuple[str, Register]:
    version, fields = entry
    try:
        register = from_json(orjson.loads(fields[fields.index(b"register") + 1]))
    except (ValueError, TypeError, LookupError, AttributeError):
        # Whoever wrote this is no member. They write it anew.
        register = Register()
    return cast("bytes", version).decode(), register


def _decode_beat(stored: bytes, now: int) -> Beat | None:
    try:
        number, heard, said = stored.split(b" ", 2)
        fields = orjson.loads(said)
        age = (now - int(heard)) / 1000
        return Beat(int(number), frozenset(fields["counts"]), fields["info"], age)
    except (ValueError, TypeError, LookupError):
        return None  # likewise
