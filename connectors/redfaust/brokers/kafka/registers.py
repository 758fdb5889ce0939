"""Who is a member of a group and owns what: a row each, changed by compare-and-set."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from redfaust.brokers import beats, shares
from redfaust.brokers.broker import Anomaly, Beat, Roll
from redfaust.brokers.kafka.listener import Listener
from redfaust.brokers.kafka.store import Store, query
from redfaust.brokers.shares import Register
from redfaust.postgres.database import Connection
from redfaust.printable import printable

CHANNEL = "redfaust_registers"
"""What a change of a register notifies, with the group's name."""

PLACE = "redfaust.registers and redfaust.beats in Postgres"

FORGET_AFTER = 60.0
"""Seconds of silence after which a member's last beat is deleted: of one that never became a
member, since the others strike out those that did."""


class Registers:
    """The registers of all groups. See :class:`~redfaust.brokers.broker.Broker`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listener = Listener(store, CHANNEL)

    async def close(self) -> None:
        """Stop listening for changes."""
        await self._listener.close()

    async def beat(self, group: str, member: str, beat: Beat) -> Roll:
        """Note a member's beat."""
        said = beats.as_json(beat)
        async with self._store.transaction() as connection:
            await connection.execute(query("beat"), group, member, beat.number, said)
            await connection.execute(query("forget_beats"), group, FORGET_AFTER)
            return await _roll(connection, group)

    async def roll(self, group: str) -> Roll:
        """What is known now."""
        async with self._store.transaction() as connection:
            return await _roll(connection, group)

    async def anomalies(self) -> list[Anomaly]:
        """What stands in registers and beats of all groups, and cannot be read."""
        found = []
        async with self._store.transaction() as connection:
            for (group,) in await connection.fetch(query("select_members")):
                _, wrong = await _read(connection, group)
                found += [Anomaly(PLACE, printable(each)) for each in wrong]
        return found

    async def write(
        self, group: str, register: Register, version: str, silent: Mapping[str, int]
    ) -> bool:
        """Write the register, unless something has changed."""
        async with self._store.transaction() as connection:
            await connection.execute(query("lock_register"), group)
            if await _version(connection, group) != version:
                return False
            locked = await connection.fetch(query("lock_beats"), group, list(silent))
            numbers = {row["member"]: row["number"] for row in locked}
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
    roll, _ = await _read(connection, group)
    return roll


async def _read(connection: Connection, group: str) -> tuple[Roll, list[str]]:
    """What is known, and what is wrong about what else stands there."""
    row = await connection.fetchrow(query("select_register"), group)
    version, register, wrong = "", Register(), []
    if row is not None:
        version = str(row[0])
        try:
            register = shares.from_json(row[1])
        except ValueError as error:  # whoever wrote this is no member: they write it anew
            wrong.append(f"the register of {group} cannot be read ({error})")
    heard = {}
    for member, number, said, age in await connection.fetch(query("select_beats"), group):
        try:
            heard[member] = beats.from_json(number, said, age)
        except ValueError as error:
            wrong.append(f"the beat of {member} cannot be read ({error}): delete the row")
    return Roll(version, register, heard), wrong
