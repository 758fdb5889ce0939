"""What Redis alone can do wrong while it appends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.broker import (
    Advance,
    Appended,
    Outgoing,
    PartlyRefused,
    Retention,
    TopicSpec,
)
from redfaust.brokers.redis import RedisBroker
from redfaust.brokers.redis.entry import MAX_HEADERS
from redfaust.brokers.redis.producer_states import CALL_BYTES
from redfaust.errors import BrokerError
from tests.integration.test_redis_producer_states import everything_said
from tests.rights import as_administrator

SECRET = b"4111-1111-1111-1111"
HEADERS = tuple((f"h{number}", b"") for number in range(MAX_HEADERS + 1))


@pytest.fixture
async def broker(broker_url: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(broker_url, default_partitions=2)
    yield broker
    await broker.close()


@pytest.fixture
async def redis(broker_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(as_administrator(broker_url), protocol=2) as client:
        yield client


def entry(value: bytes, partition: int = 0) -> Outgoing:
    return Outgoing("events", value, partition=partition)


async def values(broker: RedisBroker, partition: int) -> list[bytes | None]:
    tp = TP("events", partition)
    return [r.value for r in (await broker.read({tp: 1}, limit=100, wait=0)).get(tp, ())]


async def test_one_bad_stream_and_a_bad_entry_are_refused_in_their_places(
    broker: RedisBroker, redis: Redis
) -> None:
    await redis.set("{events:1}", "mine")
    entries = [
        entry(b"1"),
        entry(SECRET, partition=1),
        entry(SECRET)._replace(headers=HEADERS),
        entry(b"2")._replace(headers=HEADERS[1:]),
    ]
    with pytest.raises(PartlyRefused) as raised:
        await broker.append(entries)
    first, of_bad_stream, with_too_many_headers, last = raised.value.outcomes
    assert isinstance(first, Appended)
    assert isinstance(last, Appended)
    assert first.offset < last.offset
    assert isinstance(of_bad_stream, BrokerError)
    assert "WRONGTYPE" in str(of_bad_stream)
    assert isinstance(with_too_many_headers, BrokerError)
    assert f"send up to {MAX_HEADERS}" in str(with_too_many_headers)
    assert SECRET.decode() not in everything_said(of_bad_stream)
    assert await values(broker, 0) == [b"1", b"2"]


async def test_entries_of_others_are_compacted_in_whatever_order_their_fields_are(
    broker: RedisBroker, redis: Redis
) -> None:
    tp = TP("events", 0)
    await broker.create_topic(TopicSpec("events", 1))
    for fields in (
        {"_v": "1", "_k": "a"},
        {"_k": "a", "_v": "2"},
        {"_k": "b", "_v": "3"},
        {"_k": "b", "_n": ""},
        {"_k": "c", "name": "no event of ours"},
        {"_k": "c", "name": "nor is this"},
        {"_v": "last"},
    ):
        await redis.xadd("{events:0}", fields)  # type: ignore[arg-type]
    await broker.join("group", ["events"], from_start=True)
    [(_, end)] = (await broker.bounds([tp])).values()
    await broker.commit("group", {tp: Advance(end, 7)})
    await broker.compact({tp: Retention(compacted=True)})
    records = (await broker.read({tp: 1}, limit=100, wait=0))[tp]
    assert [(record.key, record.value) for record in records] == [
        (b"a", b"2"),
        (b"b", None),
        (None, b'{"_k":"c","name":"no event of ours"}'),
        (None, b'{"_k":"c","name":"nor is this"}'),
        (None, b"last"),
    ]


async def test_what_takes_several_calls_stays_in_order(broker: RedisBroker) -> None:
    large = [b"%d" % number * (CALL_BYTES // 2) for number in range(5)]
    appended = await broker.append(
        [entry(value, partition) for value in large for partition in (0, 1)]
    )
    for partition in (0, 1):
        assert await values(broker, partition) == large
        offsets = [a.offset for a in appended if a.tp.partition == partition]
        assert offsets == sorted(offsets)
        assert len(offsets) == len(large)
