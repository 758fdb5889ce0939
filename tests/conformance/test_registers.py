"""The contract of beats and registers, held against every broker."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from redfaust.brokers.broker import Beat, Broker
from redfaust.brokers.shares import Owned, Register

GROUP = "group"
PATIENCE = 10.0
FULL = Register(
    ("b~1", "a~2"),
    {0: Owned("a~2", "b~1", 12.5), 7: Owned("", "a~2", 0.0)},
    frozenset({"c"}),
    {"d": 12.5},
)


async def write(broker: Broker, register: Register, **silent: int) -> bool:
    version = (await broker.roll(GROUP)).version
    return await broker.reassign(GROUP, register, version=version, silent=silent)


async def test_a_new_group_has_nothing(broker: Broker) -> None:
    roll = await broker.roll(GROUP)
    assert (roll.register, roll.beats) == (Register(), {})


async def test_a_beat_tells_all_beats(broker: Broker) -> None:
    first = Beat(1, frozenset({1, 4}), {"pid": 42, "owns": [["events", 0]], "text": "ö"})
    await broker.beat(GROUP, "first", first)
    roll = await broker.beat(GROUP, "second", Beat(7))
    assert {name: beat._replace(age=0.0) for name, beat in roll.beats.items()} == {
        "first": first,
        "second": Beat(7),
    }
    assert all(0 <= beat.age < PATIENCE for beat in roll.beats.values())
    assert (await broker.beat(GROUP, "first", Beat(2))).beats["first"].number == 2
    assert (await broker.roll("another group")).beats == {}


async def test_a_register_is_what_was_written(broker: Broker) -> None:
    assert await write(broker, FULL)
    roll = await broker.roll(GROUP)
    assert roll.register == FULL
    assert (await broker.beat(GROUP, "a", Beat(1)))[:2] == roll[:2]
    assert (await broker.roll("another group")).register == Register()


async def test_each_version_is_another(broker: Broker) -> None:
    versions = {(await broker.roll(GROUP)).version}
    for _ in range(30):
        assert await write(broker, FULL)
        versions.add((await broker.roll(GROUP)).version)
    assert len(versions) == 31


async def test_what_was_read_too_early_is_not_written(broker: Broker) -> None:
    empty = (await broker.roll(GROUP)).version
    assert await write(broker, FULL)
    first = (await broker.roll(GROUP)).version
    assert await write(broker, replace(FULL, members=("b~1",)))
    for version in (empty, first):
        assert not await broker.reassign(GROUP, Register(), version=version, silent={})
    assert (await broker.roll(GROUP)).register.members == ("b~1",)


async def test_of_many_who_write_at_once_one_does(broker: Broker) -> None:
    version = (await broker.roll(GROUP)).version
    written = await asyncio.gather(
        *(
            broker.reassign(GROUP, Register((f"m{n}",)), version=version, silent={})
            for n in range(10)
        )
    )
    assert written.count(True) == 1
    assert (await broker.roll(GROUP)).register.members == (f"m{written.index(True)}",)


async def test_the_dead_are_forgotten(broker: Broker) -> None:
    for member in ("a", "b", "c"):
        await broker.beat(GROUP, member, Beat(3))
    assert await write(broker, FULL, a=3, b=3, never_heard=0)
    assert (await broker.roll(GROUP)).beats.keys() == {"c"}


@pytest.mark.parametrize("silent", [{"a": 2}, {"a": 0}, {"never_heard": 1}])
async def test_who_has_beaten_since_is_not_dead(broker: Broker, silent: dict[str, int]) -> None:
    await broker.beat(GROUP, "a", Beat(2))
    await broker.beat(GROUP, "a", Beat(3))
    await broker.beat(GROUP, "b", Beat(1))
    assert not await write(broker, FULL, b=1, **silent)
    roll = await broker.roll(GROUP)
    assert roll.register == Register()
    assert roll.beats.keys() == {"a", "b"}


async def test_who_waits_is_woken_by_a_change(broker: Broker, another_broker: Broker) -> None:
    for _ in range(3):
        version = (await broker.roll(GROUP)).version
        waiting = asyncio.create_task(broker.reassigned(GROUP, version, wait=PATIENCE))
        await asyncio.sleep(0)
        assert await write(another_broker, FULL)
        # As long as a wait, so that it is the change that ends it.
        await asyncio.wait_for(waiting, PATIENCE / 2)


async def test_a_change_that_has_been_is_not_waited_for(broker: Broker) -> None:
    version = (await broker.roll(GROUP)).version
    assert await write(broker, FULL)
    await asyncio.wait_for(broker.reassigned(GROUP, version, wait=PATIENCE), PATIENCE / 2)


async def test_a_wait_for_a_change_ends(broker: Broker) -> None:
    assert await write(broker, FULL)
    version = (await broker.roll(GROUP)).version
    await asyncio.wait_for(broker.reassigned(GROUP, version, wait=0.01), PATIENCE)
