"""What Redis alone can do wrong while it appends once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest
from faust.types import TP
from redis.asyncio import Redis
from yarl import URL

from redfaust.brokers.broker import (
    EntriesRefused,
    LogsBlocked,
    LogTruncated,
    Outgoing,
    ProducerBatch,
    SequencedEntry,
)
from redfaust.brokers.redis import RedisBroker
from redfaust.brokers.redis.entry import MAX_HEADERS
from redfaust.brokers.redis.offsets import offset_of
from redfaust.brokers.redis.producer_states import CALL_BYTES
from redfaust.errors import BrokerUnavailable
from tests.rights import as_administrator

EVEN, ODD = TP("events", 0), TP("events", 1)
STREAM, MARKS = "{events:0}", "{events:0}:producers"
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


def sequenced(number: int, value: bytes = SECRET, partition: int = 0) -> SequencedEntry:
    return SequencedEntry(number, Outgoing("events", value, b"card", partition=partition))


async def send(broker: RedisBroker, entries: Sequence[SequencedEntry]) -> None:
    await broker.append_once([ProducerBatch("producer_id", entries)])


def refused(error: EntriesRefused) -> list[tuple[str, int]]:
    return [(refusal.producer_id, refusal.number) for refusal in error.refused]


def everything_said(error: BaseException | None) -> str:
    said = ""
    while error is not None:
        said += repr(error)
        error = error.__cause__ or error.__context__
    return said


@pytest.mark.parametrize("key", [STREAM, MARKS])
async def test_a_key_of_another_type_blocks_its_partition_and_changes_nothing(
    broker: RedisBroker, redis: Redis, key: str
) -> None:
    await redis.set(key, "mine")
    with pytest.raises(LogsBlocked, match=f"{key} is a string, not a (stream|hash)") as raised:
        await send(broker, [sequenced(1), sequenced(2)])
    assert set(raised.value.blocked) == {EVEN}
    assert raised.value.places == {}
    assert SECRET.decode() not in everything_said(raised.value)
    assert set(await redis.keys("{events:0}*")) == {key.encode()}
    assert await redis.get(key) == b"mine"


@pytest.mark.parametrize("key", ["{events:1}", "{events:1}:producers"])
async def test_a_blocked_partition_keeps_no_other_from_its_entries(
    broker: RedisBroker, redis: Redis, key: str
) -> None:
    await redis.set(key, "mine")
    batch = [sequenced(1), sequenced(2, partition=1), sequenced(3)]
    for _ in range(2):
        with pytest.raises(LogsBlocked) as raised:
            await send(broker, batch)
        assert set(raised.value.blocked) == {ODD}
        places = raised.value.places["producer_id"]
        assert {tp: place.last_sequence for tp, place in places.items()} == {EVEN: 3}
        assert await redis.xlen(STREAM) == 2
    await redis.delete(key)
    await send(broker, batch)
    assert (await redis.xlen(STREAM), await redis.xlen("{events:1}")) == (2, 1)


async def test_a_stream_without_ids_left_blocks_its_partition_and_refuses_nothing(
    broker: RedisBroker, redis: Redis
) -> None:
    # One ID is left in the stream: the first entry lies there, the second one does not.
    top = 2**64 - 1
    await redis.xadd(STREAM, {"_v": "0"}, id=f"{top}-{top - 1}")
    with pytest.raises(LogsBlocked, match="highest possible ID") as raised:
        await send(broker, [sequenced(1), sequenced(2), sequenced(3), sequenced(4, partition=1)])
    assert set(raised.value.blocked) == {EVEN}
    assert raised.value.places["producer_id"].keys() == {ODD}
    assert SECRET.decode() not in everything_said(raised.value)
    assert await redis.xlen(STREAM) == 2
    assert (await broker.last_sequences(["producer_id"]))["producer_id"] == {EVEN: 1, ODD: 4}


async def test_of_several_errors_a_loss_is_told_before_a_refusal_and_that_before_a_block(
    broker: RedisBroker, redis: Redis
) -> None:
    await redis.set("{events:1}", "mine")
    bad, blocked = sequenced(2, partition=7), sequenced(3, partition=1)
    with pytest.raises(LogTruncated):
        await broker.append_once(
            [ProducerBatch("producer_id", [sequenced(1), bad, blocked], {EVEN: 1})]
        )
    with pytest.raises(EntriesRefused, match="no partition 7") as raised:
        await send(broker, [sequenced(1), bad, blocked])
    assert refused(raised.value) == [("producer_id", 2)]
    with pytest.raises(LogsBlocked):
        await send(broker, [sequenced(1), blocked])


async def test_a_full_redis_takes_all_or_nothing(broker: RedisBroker, redis: Redis) -> None:
    await send(broker, [sequenced(1)])
    await redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerUnavailable) as raised:
            await send(broker, [sequenced(2), sequenced(3)])
        assert SECRET.decode() not in everything_said(raised.value)
    finally:
        await redis.config_set("maxmemory", 0)
    assert (
        await redis.xlen(STREAM),
        (await broker.last_sequences(["producer_id"]))["producer_id"],
    ) == (1, {EVEN: 1})
    await send(broker, [sequenced(2), sequenced(3)])
    assert await redis.xlen(STREAM) == 3


async def forged_marks(broker: RedisBroker, redis: Redis) -> dict[str, bytes]:
    """What somebody may write in place of the last sequence of a producer in the first
    partition."""
    others = (
        ProducerBatch("another", [sequenced(9)]),
        ProducerBatch("producer_id", [sequenced(9, partition=1)]),
    )
    await broker.append_once(others)
    of_another_producer = cast("bytes", await redis.hget(MARKS, "another"))
    of_another_log = cast("bytes", await redis.hget("{events:1}:producers", "producer_id"))
    return {
        "a word": b"many",
        "a number": b"5",
        "two to the 53": b"9007199254740992",
        "a number of 20 digits": b"99999999999999999999",
        "a source without a tag": b"producer:5",
        "a source with a wrong tag": b"producer:5:0000000000000000",
        "the last sequence of another producer": of_another_producer,
        "the last sequence in another log": of_another_log,
        "bytes": b"\xff\xfe\0",
        "nothing": b"",
        "very many bytes": b"9" * 100_000,
    }


async def test_a_mark_that_redfaust_has_not_signed_is_as_if_it_were_missing(
    broker: RedisBroker, redis: Redis
) -> None:
    for what, forged in (await forged_marks(broker, redis)).items():
        await redis.delete(STREAM, MARKS)
        await send(broker, [sequenced(1), sequenced(2)])
        await redis.hset(MARKS, "producer_id", forged)
        assert (await broker.last_sequences(["producer_id"]))["producer_id"] == {ODD: 9}, what
        batch = ProducerBatch("producer_id", [sequenced(3)], after={EVEN: 2})
        with pytest.raises(LogTruncated):
            await broker.append_once([batch])
        await send(broker, [sequenced(1), sequenced(2), sequenced(3)])
        assert (await broker.last_sequences(["producer_id"]))["producer_id"] == {EVEN: 3, ODD: 9}, (
            what
        )
        log = (await broker.read({EVEN: 1}, limit=100, wait=0))[EVEN]
        sources = [record.source for record in log]
        assert sources == [("producer_id", number) for number in (1, 2, 1, 2, 3)], what


async def test_a_mark_that_changes_between_two_looks_is_followed(
    broker: RedisBroker, redis: Redis, broker_url: str
) -> None:
    other = RedisBroker(broker_url, default_partitions=2)
    try:
        for number in range(1, 20, 2):
            await send(broker, [sequenced(number), sequenced(number + 1)])
            await send(other, [sequenced(number), sequenced(number + 1), sequenced(number + 2)])
    finally:
        await other.close()
    log = (await broker.read({EVEN: 1}, limit=100, wait=0))[EVEN]
    assert [record.source for record in log] == [("producer_id", number) for number in range(1, 22)]


async def test_numbers_are_compared_exactly(broker: RedisBroker, redis: Redis) -> None:
    last = 2**53 - 1
    await send(broker, [sequenced(last - 2)])
    await send(broker, [sequenced(last - 1)])
    await send(broker, [sequenced(last - 1), sequenced(last)])
    assert await redis.xlen(STREAM) == 3
    for number in (0, -1, last + 1, 10**20):
        with pytest.raises(EntriesRefused, match=f"has the number {number}"):
            await send(broker, [sequenced(number)])
    assert (await broker.last_sequences(["producer_id"]))["producer_id"] == {EVEN: last}


async def test_marks_of_another_type_hide_no_others(broker: RedisBroker, redis: Redis) -> None:
    await send(broker, [sequenced(1)])
    await redis.set("{events:1}:producers", "mine")
    assert await broker.last_sequences(["producer_id"]) == {"producer_id": {EVEN: 1}}


async def test_large_entries_go_in_several_calls(broker: RedisBroker, redis: Redis) -> None:
    batch = [sequenced(n, b"%d" % n + b"." * (CALL_BYTES // 3), n % 2) for n in range(1, 12)]
    await redis.config_resetstat()
    await send(broker, batch)
    await send(broker, batch)
    calls = (await redis.info("commandstats"))["cmdstat_eval"]["calls"]
    assert calls == (2 + 2) + 2  # one for each stream tells that nothing is left to append
    start = offset_of(b"0-1")
    logs = await broker.read({EVEN: start, ODD: start}, limit=100, wait=0)
    values = {tp: [int((r.value or b"").rstrip(b".")) for r in log] for tp, log in logs.items()}
    assert values == {EVEN: [2, 4, 6, 8, 10], ODD: [1, 3, 5, 7, 9, 11]}


async def test_headers_beyond_what_a_script_takes_are_refused(
    broker: RedisBroker, redis: Redis
) -> None:
    def with_headers(count: int) -> SequencedEntry:
        return SequencedEntry(2, Outgoing("events", b"", b"", (("h", b""),) * count, 0, 1.0))

    with pytest.raises(EntriesRefused, match="has 3001 headers") as raised:
        await send(broker, [sequenced(1), with_headers(MAX_HEADERS + 1)])
    assert refused(raised.value) == [("producer_id", 2)]
    with pytest.raises(EntriesRefused):
        await send(broker, [sequenced(1), with_headers(MAX_HEADERS + 1), sequenced(3)])
    assert await redis.xlen(STREAM) == 1, "what follows would make it a repeat"
    await send(broker, [sequenced(1), with_headers(MAX_HEADERS)])
    assert await redis.xlen(STREAM) == 2


@pytest.mark.parametrize(
    ("rights", "blocked"),
    [
        ("~* -xadd", {EVEN, ODD}),
        ("~* -hget", {EVEN, ODD}),
        ("~{events:0}* ~redfaust:*", {ODD}),
    ],
)
async def test_a_missing_permission_blocks_partitions_and_is_no_fault_of_the_entry(
    broker: RedisBroker,
    broker_url: str,
    redis: Redis,
    rights: str,
    blocked: set[TP],
) -> None:
    rule = ("ACL", "SETUSER", "reader", "on", ">pw", "+@all", *rights.split())
    await redis.execute_command(*rule)  # type: ignore[no-untyped-call]
    restricted = RedisBroker(
        str(URL(broker_url).with_user("reader").with_password("pw")), default_partitions=2
    )
    try:
        with pytest.raises(LogsBlocked, match="permission") as raised:
            await send(restricted, [sequenced(1), sequenced(2, partition=1)])
        assert set(raised.value.blocked) == blocked
    finally:
        await restricted.close()
        await redis.acl_deluser("reader")


async def test_a_script_that_redis_has_forgotten_is_sent_again(
    broker: RedisBroker, redis: Redis
) -> None:
    await send(broker, [sequenced(1)])
    await redis.script_flush()
    await send(broker, [sequenced(2)])
    assert await redis.xlen(STREAM) == 2
