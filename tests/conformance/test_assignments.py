"""The contract of heartbeats and assignments, held against every broker."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from redfaust.brokers.assignor import GroupAssignment, Owned
from redfaust.brokers.broker import Broker, Heartbeat

GROUP = "group"
PATIENCE = 10.0
FULL = GroupAssignment(
    ("b~1", "a~2"),
    {0: Owned("a~2", "b~1", 12.5), 7: Owned("", "a~2", 0.0)},
    frozenset({"c"}),
    {"d": 12.5},
)


async def write(broker: Broker, assignment: GroupAssignment, **silent: int) -> bool:
    version = (await broker.group_state(GROUP)).version
    return await broker.reassign(GROUP, assignment, version=version, silent=silent)


async def test_a_new_group_has_nothing(broker: Broker) -> None:
    group_state = await broker.group_state(GROUP)
    assert (group_state.assignment, group_state.heartbeats) == (GroupAssignment(), {})


async def test_a_beat_tells_all_beats(broker: Broker) -> None:
    first = Heartbeat(1, frozenset({1, 4}), {"pid": 42, "owns": [["events", 0]], "text": "ö"})
    await broker.heartbeat(GROUP, "first", first)
    group_state = await broker.heartbeat(GROUP, "second", Heartbeat(7))
    assert {
        name: heartbeat._replace(age=0.0) for name, heartbeat in group_state.heartbeats.items()
    } == {
        "first": first,
        "second": Heartbeat(7),
    }
    assert all(0 <= heartbeat.age < PATIENCE for heartbeat in group_state.heartbeats.values())
    assert (await broker.heartbeat(GROUP, "first", Heartbeat(2))).heartbeats["first"].number == 2
    assert (await broker.group_state("another group")).heartbeats == {}


async def test_a_register_is_what_was_written(broker: Broker) -> None:
    assert await write(broker, FULL)
    group_state = await broker.group_state(GROUP)
    assert group_state.assignment == FULL
    assert (await broker.heartbeat(GROUP, "a", Heartbeat(1)))[:2] == group_state[:2]
    assert (await broker.group_state("another group")).assignment == GroupAssignment()


async def test_each_version_is_another(broker: Broker) -> None:
    versions = {(await broker.group_state(GROUP)).version}
    for _ in range(30):
        assert await write(broker, FULL)
        versions.add((await broker.group_state(GROUP)).version)
    assert len(versions) == 31


async def test_what_was_read_too_early_is_not_written(broker: Broker) -> None:
    empty = (await broker.group_state(GROUP)).version
    assert await write(broker, FULL)
    first = (await broker.group_state(GROUP)).version
    assert await write(broker, replace(FULL, members=("b~1",)))
    for version in (empty, first):
        assert not await broker.reassign(GROUP, GroupAssignment(), version=version, silent={})
    assert (await broker.group_state(GROUP)).assignment.members == ("b~1",)


async def test_of_many_who_write_at_once_one_does(broker: Broker) -> None:
    version = (await broker.group_state(GROUP)).version
    written = await asyncio.gather(
        *(
            broker.reassign(GROUP, GroupAssignment((f"m{n}",)), version=version, silent={})
            for n in range(10)
        )
    )
    assert written.count(True) == 1
    assert (await broker.group_state(GROUP)).assignment.members == (f"m{written.index(True)}",)


async def test_the_dead_are_forgotten(broker: Broker) -> None:
    for member in ("a", "b", "c"):
        await broker.heartbeat(GROUP, member, Heartbeat(3))
    assert await write(broker, FULL, a=3, b=3, never_heard=0)
    assert (await broker.group_state(GROUP)).heartbeats.keys() == {"c"}


@pytest.mark.parametrize("silent", [{"a": 2}, {"a": 0}, {"never_heard": 1}])
async def test_who_has_heartbeats_sent_since_is_not_dead(
    broker: Broker, silent: dict[str, int]
) -> None:
    await broker.heartbeat(GROUP, "a", Heartbeat(2))
    await broker.heartbeat(GROUP, "a", Heartbeat(3))
    await broker.heartbeat(GROUP, "b", Heartbeat(1))
    assert not await write(broker, FULL, b=1, **silent)
    group_state = await broker.group_state(GROUP)
    assert group_state.assignment == GroupAssignment()
    assert group_state.heartbeats.keys() == {"a", "b"}


async def test_who_waits_is_woken_by_a_change(broker: Broker, another_broker: Broker) -> None:
    for _ in range(3):
        version = (await broker.group_state(GROUP)).version
        waiting = asyncio.create_task(broker.reassigned(GROUP, version, wait=PATIENCE))
        await asyncio.sleep(0)
        assert await write(another_broker, FULL)
        # As long as a wait, so that it is the change that ends it.
        await asyncio.wait_for(waiting, PATIENCE / 2)


async def test_a_change_that_has_been_is_not_waited_for(broker: Broker) -> None:
    version = (await broker.group_state(GROUP)).version
    assert await write(broker, FULL)
    await asyncio.wait_for(broker.reassigned(GROUP, version, wait=PATIENCE), PATIENCE / 2)


async def test_a_wait_for_a_change_ends(broker: Broker) -> None:
    assert await write(broker, FULL)
    version = (await broker.group_state(GROUP)).version
    await asyncio.wait_for(broker.reassigned(GROUP, version, wait=0.01), PATIENCE)
