"""Reading is bounded by bytes, however many entries wait and however large they are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.broker import Broker, Outgoing, Record, TopicSpec
from redfaust.brokers.redis import bounded
from redfaust.brokers.redis.bounded import ReplyTooLarge
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.brokers.redis.offsets import BEGINNING
from redfaust.transports import reading
from redfaust.transports.by_url import broker_by_url
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.rights import as_administrator

LARGE = 1 << 20
PARTITIONS = 4


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READ_BYTES", 4 * LARGE)
    monkeypatch.setattr(reading, "FLIGHT_BYTES", 8 * LARGE)


class Reads:
    """What a consumer has asked for and got."""

    def __init__(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        self.limits: list[int] = []
        self.sizes: list[int] = []
        read = broker.read

        async def noted(
            positions: Mapping[TP, int], *, limit: int, wait: float
        ) -> Mapping[TP, Sequence[Record]]:
            found = await read(positions, limit=limit, wait=wait)
            if found:
                self.limits.append(limit)
                records = [record for of_tp in found.values() for record in of_tp]
                self.sizes.append(sum(len(record.value or b"") for record in records))
            return found

        monkeypatch.setattr(broker, "read", noted)


async def append(
    url: str, sizes: Sequence[int], partitions: int = PARTITIONS, topic: str = "numbers"
) -> None:
    broker = broker_by_url(url, default_partitions=partitions)
    await broker.open()
    await broker.create_topic(TopicSpec(topic, partitions))
    for number, size in enumerate(sizes):
        value = b'"' + b"x" * (size - 2) + b'"'
        await broker.append([Outgoing(topic, value, partition=number % partitions)])
    await broker.close()


@pytest.mark.parametrize("any_broker_url", ["valkey", "cluster"], indirect=True)
async def test_no_more_large_entries_are_read_and_held_than_fit(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(any_broker_url, [LARGE] * 60)
    app, done, most = new_app(any_broker_url, database_url), [], 0
    may_go_on = asyncio.Event()

    @app.agent(app.topic("numbers"), concurrency=4)
    async def note(stream: Any) -> None:
        async for text in stream:
            await may_go_on.wait()
            done.append(len(text))

    reads = Reads(cast("Broker", app.transport.broker), monkeypatch)  # type: ignore[attr-defined]

    def in_flight() -> int:
        consumer: Any = app.consumer
        return sum(
            owned_partition.bytes_in_flight
            for owned_partition in consumer.owned_partitions.values()
        )

    async with running(app):
        await eventually(lambda: in_flight() >= 8 * LARGE)
        for _ in range(100):  # it is given every chance to read on
            await asyncio.sleep(0)
            most = max(most, in_flight())
        may_go_on.set()
        await eventually(lambda: len(done) == 60)
    assert most <= 14 * LARGE
    assert max(reads.sizes) <= 8 * LARGE


async def test_small_entries_are_read_by_the_thousand_again(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(any_broker_url, [LARGE] * 8, partitions=1)
    async with (
        Redis.from_url(as_administrator(any_broker_url)) as client,
        client.pipeline() as pipeline,
    ):
        for number in range(4000):
            pipeline.xadd("{numbers:0}", {"_v": str(number)})
        await pipeline.execute()
    app, done = new_app(any_broker_url, database_url, partitions=1), 0

    @app.agent(app.topic("numbers"))
    async def note(stream: Any) -> None:
        nonlocal done
        async for _ in stream:
            done += 1

    reads = Reads(cast("Broker", app.transport.broker), monkeypatch)  # type: ignore[attr-defined]
    async with running(app):
        await eventually(lambda: done == 4008)
    assert max(reads.limits[:3]) <= 8
    assert max(reads.limits) == reading.READ_LIMIT


async def test_an_entry_larger_than_all_bounds_is_read(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READ_BYTES", LARGE // 8)
    monkeypatch.setattr(reading, "FLIGHT_BYTES", LARGE // 4)
    await append(any_broker_url, [10, 10, LARGE, 10, 10, 10, LARGE, 10])
    app, done = new_app(any_broker_url, database_url), []

    @app.agent(app.topic("numbers"))
    async def note(stream: Any) -> None:
        async for text in stream:
            done.append(len(text))

    async with running(app):
        await eventually(lambda: len(done) == 8)


async def test_a_topic_that_holds_all_that_may_be_in_flight_stops_no_other(
    any_broker_url: str, database_url: str
) -> None:
    await append(any_broker_url, [LARGE] * 30)
    await append(any_broker_url, [LARGE] * 30, topic="others")
    app, done = new_app(any_broker_url, database_url), Counter[str]()
    may_end = asyncio.Event()

    @app.agent(app.topic("numbers"))
    async def wait(stream: Any) -> None:
        async for _ in stream:
            await may_end.wait()
            done["numbers"] += 1

    @app.agent(app.topic("others"))
    async def note(stream: Any) -> None:
        async for _ in stream:
            done["others"] += 1

    async with running(app):
        await eventually(lambda: done == {"others": 30})
        may_end.set()
        await eventually(lambda: done == {"others": 30, "numbers": 30})


@pytest.mark.parametrize("any_broker_url", ["valkey", "cluster"], indirect=True)
async def test_a_reply_with_more_than_was_expected_is_asked_for_in_parts(
    any_broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where large entries follow upon small ones."""
    monkeypatch.setattr(bounded, "REPLY_BYTES", 3 * LARGE)
    given_up = 0
    raise_it = ReplyTooLarge.__init__

    def count(self: ReplyTooLarge, *args: object) -> None:
        nonlocal given_up
        given_up += 1
        raise_it(self, *args)

    monkeypatch.setattr(ReplyTooLarge, "__init__", count)
    await append(any_broker_url, [LARGE] * 16 + [5 * LARGE] * 4)
    broker = RedisBroker(any_broker_url, default_partitions=PARTITIONS)
    positions = {TP("numbers", number): BEGINNING for number in range(PARTITIONS)}
    replies = 3 if "+cluster" in any_broker_url else 1  # one of each primary may have come
    got: list[int] = []
    async with asyncio.timeout(PATIENCE):
        while len(got) < 20:
            found = await broker.read(positions, limit=1000, wait=1.0)
            sizes = [len(r.value or b"") for records in found.values() for r in records]
            assert sum(sizes) <= replies * 5 * LARGE
            got += sizes
            positions |= {tp: records[-1].offset + 1 for tp, records in found.items() if records}
    assert given_up
    assert sorted(got) == [LARGE] * 16 + [5 * LARGE] * 4
    await broker.close()


async def test_a_shared_agent_claims_no_more_large_entries_than_fit(
    any_broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.brokers.redis.share_group.TAKE_BYTES", 4 * LARGE)
    monkeypatch.setattr("redfaust.brokers.redis.share_group.CLAIM_FOR", 0.0)
    await append(any_broker_url, [LARGE] * 60, partitions=1)
    broker = RedisBroker(any_broker_url, default_partitions=1)
    dead, heir = broker.share_group("group", "dead"), broker.share_group("group", "heir")
    for consumer in (dead, heir):
        await consumer.join(["numbers"], from_start=True)
    taken = await dead.claim(60, wait=0)
    assert len(taken) == 16
    while claims := await dead.claim(60, wait=0):
        assert len(claims) <= 16
        taken = [*taken, *claims]
    assert len(taken) == 60
    assert len(await heir.claim_stale(60)) == 4
    for consumer in (dead, heir):
        await consumer.close()
    await broker.close()
