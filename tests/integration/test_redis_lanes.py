"""What Redis alone can do wrong while it appends once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from faust.types import TP
from redis.asyncio import Redis
from yarl import URL

from connectors.brokers.broker import EntriesRefused, LaneBatch, Numbered, Outgoing
from connectors.brokers.redis import RedisBroker
from connectors.brokers.redis.entry import MAX_HEADERS
from connectors.brokers.redis.lanes import CALL_BYTES
from connectors.brokers.redis.offsets import offset_of
from connectors.errors import BrokerError, BrokerUnavailable
from tests.rights import as_administrator

EVEN, ODD = TP("events", 0), TP("events", 1)
STREAM, MARKS = "{events:0}", "{events:0}:lanes"
SECRET = b"4111-1111-1111-1111"


@pytest.fixture
async def broker(broker_url: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(broker_url, default_partitions=2)
    yield broker
    await broker.close()


@pytest.fixture
async def redis(broker_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(as_administrator(broker_url), protocol=2) as client:
        yield client


def numbered(number: int, value: bytes = SECRET, partition: int = 0) -> Numbered:
    return Numbered(number, Outgoing("events", value, b"card", partition=partition))


async def send(broker: RedisBroker, entries: Sequence[Numbered]) -> None:
    await broker.append_once([LaneBatch("lane", entries)])


def refused(error: EntriesRefused) -> list[tuple[str, int]]:
    return [(refusal.lane, refusal.number) for refusal in error.refused]


def everything_said(error: BaseException | None) -> str:
    said = ""
    while error is not None:
        said += repr(error)
        error = error.__cause__ or error.__context__
    return said


@pytest.mark.parametrize("key", [STREAM, MARKS])
async def test_a_key_of_another_type_changes_nothing(
    broker: RedisBroker, redis: Redis, key: str
) -> None:
    await redis.set(key, "mine")
    with pytest.raises(EntriesRefused, match=f"WRONGTYPE {key} is a string") as raised:
        await send(broker, [numbered(1), numbered(2)])
    assert refused(raised.value) == [("lane", 1), ("lane", 2)]
    assert SECRET.decode() not in everything_said(raised.value)
    assert set(await redis.keys("{events:0}*")) == {key.encode()}
    assert await redis.get(key) == b"mine"


async def test_one_bad_stream_leaves_the_others_to_a_repeat(
    broker: RedisBroker, redis: Redis
) -> None:
    await redis.set("{events:1}", "mine")
    batch = [numbered(1), numbered(2, partition=1), numbered(3)]
    with pytest.raises(EntriesRefused, match="WRONGTYPE") as raised:
        await send(broker, batch)
    assert refused(raised.value) == [("lane", 2)]
    await redis.delete("{events:1}")
    await send(broker, batch)
    assert (await redis.xlen(STREAM), await redis.xlen("{events:1}")) == (2, 1)


async def test_what_lies_behind_a_refused_entry_is_not_appended(
    broker: RedisBroker, redis: Redis
) -> None:
    # One ID is left in the stream: the second entry fails, the first lies there.
    top = 2**64 - 1
    await redis.xadd(STREAM, {"_v": "0"}, id=f"{top}-{top - 1}")
    with pytest.raises(EntriesRefused) as raised:
        await send(broker, [numbered(1), numbered(2), numbered(3)])
    assert refused(raised.value) == [("lane", 2)]
    assert SECRET.decode() not in everything_said(raised.value)
    assert await redis.xlen(STREAM) == 2
    assert (await broker.marks(["lane"]))["lane"] == {EVEN: 1}


async def test_a_full_redis_takes_all_or_nothing(broker: RedisBroker, redis: Redis) -> None:
    await send(broker, [numbered(1)])
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerUnavailable) as raised:
            await send(broker, [numbered(2), numbered(3)])
        assert SECRET.decode() not in everything_said(raised.value)
    finally:
        await redis.config_set("maxmemory", 0)
    assert (await redis.xlen(STREAM), (await broker.marks(["lane"]))["lane"]) == (1, {EVEN: 1})
    await send(broker, [numbered(2), numbered(3)])
    assert await redis.xlen(STREAM) == 3


async def test_a_mark_that_is_no_number_is_not_guessed(broker: RedisBroker, redis: Redis) -> None:
    await redis.hset(MARKS, "lane", "many")
    with pytest.raises(EntriesRefused, match="is no number"):
        await send(broker, [numbered(1)])
    assert not await redis.exists(STREAM)
    assert await broker.marks(["lane"]) == {"lane": {}}


async def test_marks_of_another_type_hide_no_others(broker: RedisBroker, redis: Redis) -> None:
    await send(broker, [numbered(1)])
    await redis.set("{events:1}:lanes", "mine")
    assert await broker.marks(["lane"]) == {"lane": {EVEN: 1}}


async def test_large_entries_go_in_several_calls(broker: RedisBroker, redis: Redis) -> None:
    batch = [numbered(n, b"%d" % n + b"." * (CALL_BYTES // 3), n % 2) for n in range(1, 12)]
    await redis.config_resetstat()
    await send(broker, batch)
    await send(broker, batch)
    calls = (await redis.info("commandstats"))["cmdstat_eval"]["calls"]
    assert calls == 2 * (2 + 2)
    start = offset_of(b"0-1")
    logs = await broker.read({EVEN: start, ODD: start}, limit=100, wait=0)
    values = {tp: [int((r.value or b"").rstrip(b".")) for r in log] for tp, log in logs.items()}
    assert values == {EVEN: [2, 4, 6, 8, 10], ODD: [1, 3, 5, 7, 9, 11]}


async def test_headers_beyond_what_a_script_takes_are_refused(
    broker: RedisBroker, redis: Redis
) -> None:
    def with_headers(count: int) -> Numbered:
        return Numbered(2, Outgoing("events", b"", b"", (("h", b""),) * count, 0, 1.0))

    with pytest.raises(EntriesRefused, match="has 3001 headers") as raised:
        await send(broker, [numbered(1), with_headers(MAX_HEADERS + 1)])
    assert refused(raised.value) == [("lane", 2)]
    assert not await redis.exists(STREAM)
    await send(broker, [numbered(1), with_headers(MAX_HEADERS)])
    assert await redis.xlen(STREAM) == 2


async def test_a_missing_permission_is_no_fault_of_the_entry(
    broker: RedisBroker, broker_url: str, redis: Redis
) -> None:
    await redis.acl_setuser("reader", enabled=True, passwords=["+pw"], categories=["+@all"])
    await redis.acl_setuser("reader", keys=["*"], commands=["-xadd"])
    restricted = RedisBroker(
        str(URL(broker_url).with_user("reader").with_password("pw")), default_partitions=2
    )
    try:
        with pytest.raises(BrokerError) as raised:
            await send(restricted, [numbered(1)])
        assert not isinstance(raised.value, EntriesRefused)
    finally:
        await restricted.close()
        await redis.acl_deluser("reader")


async def test_a_script_that_redis_has_forgotten_is_sent_again(
    broker: RedisBroker, redis: Redis
) -> None:
    await send(broker, [numbered(1)])
    await redis.script_flush()
    await send(broker, [numbered(2)])
    assert await redis.xlen(STREAM) == 2
