"""Members and assignment of each group, in two keys of one slot.

The assignment is a short stream, of which the last entry counts: its ID is the version. A member
that waits for another version reads the stream. The entries before it show how it came about. The
heartbeats are a hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from redis.asyncio import Redis

from redfaust.brokers import heartbeats
from redfaust.brokers.assignor import GroupAssignment, as_json
from redfaust.brokers.broker import GroupState, Heartbeat
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import reading, script
from redfaust.brokers.redis.stored import Malformed, assignment_entry, heartbeat_entry, of_type

KINDS = "assignment (a stream) or heartbeats (a hash)"

KEPT = 20
"""Versions of an assignment that are kept to look at."""

FORGET_AFTER = 60_000
"""Milliseconds of silence after which a member's last heartbeat is deleted: of one that never
became a member, since the others strike out those that did."""


class GroupStates:
    """The assignments of all groups. See :class:`~redfaust.brokers.broker.Broker`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._heartbeat = script(client, "heartbeat")
        self._reassign = script(client, "reassign")

    async def heartbeat(self, group: str, member: str, heartbeat: Heartbeat) -> GroupState:
        """Note a member's heartbeat."""
        said = orjson.dumps(heartbeats.as_json(heartbeat))
        with of_type(keys.assignment(group), KINDS):
            reply = await self._heartbeat(
                keys=_keys(group), args=[member, heartbeat.number, said, FORGET_AFTER]
            )
        group_state, _ = _decode_group_state(group, reply)
        return group_state

    async def group_state(self, group: str) -> GroupState:
        """What is known now."""
        group_state, _ = await self.read(group)
        return group_state

    async def read(self, group: str) -> tuple[GroupState, list[str]]:
        """The same, and what is wrong about what else stands there."""
        with of_type(keys.assignment(group), KINDS):
            reply = await self._client.execute_command(  # type: ignore[no-untyped-call]
                *reading(self._heartbeat, _keys(group), "", 0, b"", FORGET_AFTER)
            )
        return _decode_group_state(group, reply)

    async def write(
        self, group: str, assignment: GroupAssignment, version: str, silent: Mapping[str, int]
    ) -> bool:
        """Write the assignment, unless something has changed."""
        dead = [each for pair in silent.items() for each in pair]
        with of_type(keys.assignment(group), KINDS):
            done = await self._reassign(
                keys=_keys(group), args=[version, encode(assignment), KEPT, *dead]
            )
        return bool(done)

    async def changed(self, group: str, version: str, wait: float) -> None:
        """Wait for another version. ``wait`` is to be shorter than what a reply may take."""
        block = max(1, int(wait * 1000))
        with of_type(keys.assignment(group), "assignment (a stream)"):
            await self._client.xread({keys.assignment(group): version or "0"}, count=1, block=block)


def _keys(group: str) -> list[str]:
    return [keys.assignment(group), keys.heartbeats(group)]


def encode(assignment: GroupAssignment) -> bytes:
    """An assignment as it is stored."""
    return orjson.dumps(as_json(assignment))


def _decode_group_state(group: str, reply: Any) -> tuple[GroupState, list[str]]:
    entries, flat, now = reply
    version, assignment, wrong = "", GroupAssignment(), []
    for entry in entries:
        try:
            version, assignment = assignment_entry(group, entry)
        except Malformed as error:  # members write it anew
            version = entry[0].decode()
            wrong.append(str(error))
    heard: dict[str, Heartbeat] = {}
    for name, value in sorted(zip(flat[::2], flat[1::2], strict=True)):
        try:
            sender, heartbeat = heartbeat_entry(name, value, now)
            heard[sender] = heartbeat
        except Malformed as error:
            wrong.append(str(error))
    return GroupState(version, assignment, heard), wrong
