"""What is asked about many partitions is asked at a time: it costs no more with a distant Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from faust.types import TP
from redis.asyncio import Connection, Redis

from redfaust.brokers.broker import Outgoing
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.brokers.share_group import ShareGroup
from tests.rights import as_administrator

TOPICS = [f"topic-{number}" for number in range(50)]
PARTITIONS = 4
TPS = [TP(topic, number) for topic in TOPICS for number in range(PARTITIONS)]
FEW = 4
"""The catalog, whether Redis knows the script, and the script for all partitions; redis-py may ask
something of a new connection."""


@pytest.fixture
async def broker(any_broker_url: str) -> AsyncIterator[RedisBroker]:
    """With topics of which each holds an entry that is larger than any answer should be."""
    broker = RedisBroker(any_broker_url, default_partitions=PARTITIONS)
    await broker.open()
    async with Redis.from_url(as_administrator(any_broker_url)) as client:
        await client.hset(keys.TOPICS, mapping=dict.fromkeys(TOPICS, PARTITIONS))
    await broker.append([Outgoing(tp.topic, b"x" * 100_000, partition=tp.partition) for tp in TPS])
    yield broker
    await broker.close()


class Sent:
    """How often something was sent to Redis."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        send = Connection.send_packed_command

        async def counted(connection: Connection, *args: Any, **options: Any) -> None:
            self.count += 1
            await send(connection, *args, **options)

        monkeypatch.setattr(Connection, "send_packed_command", counted)

    async def during(self, asking: Awaitable[object]) -> int:
        before = self.count
        await asking
        return self.count - before


async def test_questions_about_many_partitions_take_few_round_trips(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    assert await sent.during(broker.join("group", TOPICS, from_start=True)) <= FEW
    assert await sent.during(broker.status("group", TOPICS[0])) <= FEW
    assert await sent.during(broker.positions("group", TPS)) <= FEW
    assert await sent.during(broker.bounds(TPS)) <= FEW
    assert await sent.during(broker.floors(TPS)) <= FEW
    assert await sent.during(broker.leave("group", TOPICS)) <= FEW


async def test_a_shared_consumer_that_has_nothing_to_do_asks_little(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer: ShareGroup = broker.share_group("shop/mail", "consumer")
    sent = Sent(monkeypatch)
    assert await sent.during(consumer.join(TOPICS, from_start=False)) <= FEW
    assert await sent.during(consumer.claim_stale(10)) <= 2 * FEW
    assert await sent.during(consumer.claim_stale(10)) <= FEW
    assert await sent.during(consumer.finished()) <= 2 * FEW
    assert await sent.during(consumer.close()) <= FEW


async def test_the_status_takes_few_round_trips(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await broker.join("shop", TOPICS, from_start=True)
    sent = Sent(monkeypatch)
    assert await sent.during(broker.survey(TPS)) <= FEW
    assert await sent.during(broker.anomalies()) <= 4 * FEW
