"""Members and assignment of each group: a row each, changed by compare-and-set."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from redfaust.brokers import assignor, heartbeats
from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import Anomaly, GroupState, Heartbeat
from redfaust.brokers.kafka.listener import Listener
from redfaust.brokers.kafka.store import Store, query
from redfaust.postgres.database import Connection
from redfaust.printable import printable

CHANNEL = "redfaust_assignments"
"""What a change of an assignment notifies, with the group's name."""

PLACE = "redfaust.assignments and redfaust.heartbeats in Postgres"

FORGET_AFTER = 60.0
"""Seconds of silence after which a member's last heartbeat is deleted: of one that never became a
member, since the others strike out those that did."""


class GroupStates:
    """The assignments of all groups. See :class:`~redfaust.brokers.broker.Broker`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._listener = Listener(store, CHANNEL)

    async def close(self) -> None:
        """Stop listening for changes."""
        await self._listener.close()

    async def heartbeat(self, group: str, member: str, heartbeat: Heartbeat) -> GroupState:
        """Note a member's heartbeat."""
        said = heartbeats.as_json(heartbeat)
        async with self._store.transaction() as connection:
            await connection.execute(query("heartbeat"), group, member, heartbeat.number, said)
            await connection.execute(query("forget_heartbeats"), group, FORGET_AFTER)
            return await _group_state(connection, group)

    async def group_state(self, group: str) -> GroupState:
        """What is known now."""
        async with self._store.transaction() as connection:
            return await _group_state(connection, group)

    async def anomalies(self) -> list[Anomaly]:
        """What stands in assignments and heartbeats of all groups, and cannot be read."""
        found = []
        async with self._store.transaction() as connection:
            for (group,) in await connection.fetch(query("select_members")):
                _, wrong = await _read(connection, group)
                found += [Anomaly(PLACE, printable(each)) for each in wrong]
        return found

    async def write(
        self, group: str, assignment: GroupAssignment, version: str, silent: Mapping[str, int]
    ) -> bool:
        """Write the assignment, unless something has changed."""
        async with self._store.transaction() as connection:
            await connection.execute(query("lock_assignment"), group)
            if await _version(connection, group) != version:
                return False
            locked = await connection.fetch(query("lock_heartbeats"), group, list(silent))
            numbers = {row["member"]: row["number"] for row in locked}
            if any(numbers.get(member, 0) != number for member, number in silent.items()):
                return False
            await connection.execute(query("delete_heartbeats"), group, list(silent))
            await connection.execute(
                query("write_assignment"), group, assignor.as_json(assignment), CHANNEL
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


async def _group_state(connection: Connection, group: str) -> GroupState:
    group_state, _ = await _read(connection, group)
    return group_state


async def _read(connection: Connection, group: str) -> tuple[GroupState, list[str]]:
    """What is known, and what is wrong about what else stands there."""
    row = await connection.fetchrow(query("select_assignment"), group)
    version, assignment, wrong = "", GroupAssignment(), []
    if row is not None:
        version = str(row[0])
        try:
            assignment = assignor.from_json(row[1])
        except ValueError as error:  # whoever wrote this is no member: they write it anew
            wrong.append(f"the assignment of {group} cannot be read ({error})")
    heard = {}
    for member, number, said, age in await connection.fetch(query("select_heartbeats"), group):
        try:
            heard[member] = heartbeats.from_json(number, said, age)
        except ValueError as error:
            wrong.append(f"the heartbeat of {member} cannot be read ({error}): delete the row")
    return GroupState(version, assignment, heard), wrong
