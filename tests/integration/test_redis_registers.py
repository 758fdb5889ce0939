"""What Redis may hold of a group that no member wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from redfaust.brokers.broker import Beat
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.brokers.redis.registers import FORGET_AFTER, KEPT
from redfaust.brokers.shares import Register
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
    await broker.beat(group, "a", Beat(1))
    await broker.reassign(group, Register(("a",)), version="", silent={})
    ours = [keys.beats(group).encode(), keys.register(group).encode()]
    assert sorted(cast("list[bytes]", await client.keys())) == ours
    assert len({key_slot(key) for key in ours}) == 1


@pytest.mark.parametrize(
    "stored",
    ["", "{", "[]", "{}", '{"members": 1}', '{"members": [], "owners": [], "drained": []}'],
)
async def test_a_register_that_nobody_can_read_is_written_anew(
    broker: RedisBroker, client: Redis, stored: str
) -> None:
    await client.xadd(keys.register(GROUP), {"register": stored})
    roll = await broker.roll(GROUP)
    assert roll.register == Register()
    assert await broker.reassign(GROUP, Register(("a",)), version=roll.version, silent={})
    assert (await broker.roll(GROUP)).register.members == ("a",)


async def test_an_entry_of_others_is_a_register_that_nobody_can_read(
    broker: RedisBroker, client: Redis
) -> None:
    await client.xadd(keys.register(GROUP), {"another": "field"})
    assert (await broker.roll(GROUP)).register == Register()


@pytest.mark.parametrize("stored", ["", "1", "1 2 3", "1 2 {}", "one two three"])
async def test_a_beat_that_nobody_can_read_is_none(
    broker: RedisBroker, client: Redis, stored: str
) -> None:
    await client.hset(keys.beats(GROUP), "stranger", stored)
    assert (await broker.roll(GROUP)).beats == {}
    assert (await broker.beat(GROUP, "a", Beat(1))).beats.keys() == {"a"}


async def test_who_was_silent_for_long_is_forgotten(broker: RedisBroker, client: Redis) -> None:
    seconds, _ = await client.time()
    for member, age in (("older", FORGET_AFTER + 2000), ("younger", FORGET_AFTER - 2000)):
        said = f'1 {seconds * 1000 - age} {{"counts": [], "info": {{}}}}'
        await client.hset(keys.beats(GROUP), member, said)
    roll = await broker.beat(GROUP, "a", Beat(1))
    assert roll.beats.keys() == {"a", "younger"}
    assert roll.heard().keys() == {"a"}


async def test_a_register_stays_short(broker: RedisBroker, client: Redis) -> None:
    for _ in range(KEPT + 5):
        version = (await broker.roll(GROUP)).version
        await broker.reassign(GROUP, Register(("a",)), version=version, silent={})
    assert await client.xlen(keys.register(GROUP)) == KEPT


async def test_a_key_of_another_type_is_an_error(broker: RedisBroker, client: Redis) -> None:
    await client.set(keys.register(GROUP), "not a stream")
    with pytest.raises(BrokerError):
        await broker.beat(GROUP, "a", Beat(1))
