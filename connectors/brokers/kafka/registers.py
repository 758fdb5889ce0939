"""Who is a member of a group and owns what: a row each, changed by compare-and-set."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from connectors.brokers import shares
from connectors.brokers.broker import Beat, Roll
from connectors.brokers.kafka.listener import Listener
from connectors.brokers.kafka.store import Store, query
from connectors.brokers.shares import Register
from connectors.postgres.database import Connection

CHANNEL = "redfaust_registers"
"""What a change of a register notifies, with the group's name."""

FORGET_AFTER = 60.0
"""Seconds of silence after which a member's last beat is deleted: of one that never became a
member, since the others strike out those that did."""


class Registers:
    """The registers of all groups. See :class:`~connectors.brokers.broker.Broker`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listener = Listener(store, CHANNEL)

    async def close(self) -> None:
        """Stop listening for changes."""
        await self._listener.close()

    async def beat(self, group: str, member: str, beat: Beat) -> Roll:
        """Note a member's beat."""
        said = {"counts": sorted(beat.counts), "info": beat.info}
        async with self._store.transaction() as connection:
            await connection.execute(query("beat"), group, member, beat.number, said)
            await connection.execute(query("forget_beats"), group, FORGET_AFTER)
            return await _roll(connection, group)

    async def roll(self, group: str) -> Roll:
        """What is known now."""
        async with self._store.transaction() as connection:
            return await _roll(connection, group)

    async def write(
        self, group: str, register: Register, version: str, silent: Mapping[str, int]
    ) -> bool:
        """Write the register, unless something has changed."""
        async with self._store.transaction() as connection:
            await connection.execute(query("lock_register"), group)
            if await _version(connection, group) != version:
                return False
            beats = await connection.fetch(query("lock_beats"), group, list(silent))
            numbers = {row["member"]: row["number"] for row in beats}
            if any(numbers.get(member, 0) != number for member, number in silent.items()):
                return False
            await connection.execute(query("delete_beats"), group, list(silent))
            await connection.execute(
                query("write_register"), group, shares.as_json(register), CHANNEL
            )
        return True

    async def changed(self, group: str, version: str, wait: float) -> None:
        """Wait for another version, at most ``wait`` seconds."""
        async with self._listener.hearing(group) as news:
            async with self._store.transaction() as connection:
                if await _version(connection, group) != version:
                    return
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await news.wait()


async def _version(connection: Connection, group: str) -> str:
    return str(await connection.fetchval(query("select_version"), group) or "")


async def _roll(connection: Connection, group: str) -> Roll:
    row = await connection.fetchrow(query("select_register"), group)
    version, register = ("", Register()) if row is None else (str(row[0]), _register(row[1]))
    beats = await connection.fetch(query("select_beats"), group)
    return Roll(
        version,
        register,
        {
            member: Beat(number, frozenset(said["counts"]), said["info"], age)
            for member, number, said, age in beats
        },
    )


def _register(stored: object) -> Register:
    try:
        return shares.from_json(stored)
    except (ValueError, TypeError, LookupError, AttributeError):
        return Register()  # whoever wrote this is no member: they write it anew
