"""What Redis may hold of a group that no member wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import Heartbeat
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.brokers.redis.group_states import FORGET_AFTER, KEPT
from redfaust.errors import BrokerError
from tests.rights import as_administrator

GROUP = "group"


@pytest.fixture
async def broker(broker_url: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(broker_url, default_partitions=2)
    await broker.open()
    yield broker
    await broker.close()


@pytest.fixture
async def client(broker_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(as_administrator(broker_url)) as client:
        yield client


@pytest.mark.parametrize("group", ["shop", "a}b", "{a", "{}", "ä b"])
async def test_the_keys_of_a_group_lie_in_one_slot(
    broker: RedisBroker, client: Redis, group: str
) -> None:
    await broker.heartbeat(group, "a", Heartbeat(1))
    await broker.reassign(group, GroupAssignment(("a",)), version="", silent={})
    ours = [keys.assignment(group).encode(), keys.heartbeats(group).encode()]
    assert sorted(cast("list[bytes]", await client.keys())) == ours
    assert len({key_slot(key) for key in ours}) == 1


@pytest.mark.parametrize(
    "stored",
    ["", "{", "[]", "{}", '{"members": 1}', '{"members": [], "owners": [], "drained": []}'],
)
async def test_a_register_that_nobody_can_read_is_written_anew(
    broker: RedisBroker, client: Redis, stored: str
) -> None:
    await client.xadd(keys.assignment(GROUP), {"assignment": stored})
    group_state = await broker.group_state(GROUP)
    assert group_state.assignment == GroupAssignment()
    assert await broker.reassign(
        GROUP, GroupAssignment(("a",)), version=group_state.version, silent={}
    )
    assert (await broker.group_state(GROUP)).assignment.members == ("a",)


async def test_an_entry_of_others_is_a_register_that_nobody_can_read(
    broker: RedisBroker, client: Redis
) -> None:
    await client.xadd(keys.assignment(GROUP), {"another": "field"})
    assert (await broker.group_state(GROUP)).assignment == GroupAssignment()


@pytest.mark.parametrize("stored", ["", "1", "1 2 3", "1 2 {}", "one two three"])
async def test_a_beat_that_nobody_can_read_is_none(
    broker: RedisBroker, client: Redis, stored: str
) -> None:
    await client.hset(keys.heartbeats(GROUP), "stranger", stored)
    assert (await broker.group_state(GROUP)).heartbeats == {}
    assert (await broker.heartbeat(GROUP, "a", Heartbeat(1))).heartbeats.keys() == {"a"}


async def test_who_was_silent_for_long_is_forgotten(broker: RedisBroker, client: Redis) -> None:
    seconds, _ = await client.time()
    for member, age in (("older", FORGET_AFTER + 2000), ("younger", FORGET_AFTER - 2000)):
        said = f'1 {seconds * 1000 - age} {{"counts": [], "info": {{}}}}'
        await client.hset(keys.heartbeats(GROUP), member, said)
    group_state = await broker.heartbeat(GROUP, "a", Heartbeat(1))
    assert group_state.heartbeats.keys() == {"a", "younger"}
    assert group_state.heard().keys() == {"a"}


async def test_a_register_stays_short(broker: RedisBroker, client: Redis) -> None:
    for _ in range(KEPT + 5):
        version = (await broker.group_state(GROUP)).version
        await broker.reassign(GROUP, GroupAssignment(("a",)), version=version, silent={})
    assert await client.xlen(keys.assignment(GROUP)) == KEPT


async def test_a_key_of_another_type_is_an_error(broker: RedisBroker, client: Redis) -> None:
    await client.set(keys.assignment(GROUP), "not a stream")
    with pytest.raises(BrokerError):
        await broker.heartbeat(GROUP, "a", Heartbeat(1))
