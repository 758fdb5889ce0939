"""The contract of :class:`redfaust.brokers.share_group.ShareGroup`, held against every broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack

import pytest
from faust.types import TP

from redfaust.brokers.broker import Broker, Outgoing, TopicSpec
from redfaust.brokers.capabilities import Capability
from redfaust.brokers.share_group import Claim, ShareGroup
from redfaust.transports.by_url import broker_by_url

pytestmark = pytest.mark.needs(Capability.SHARED_DELIVERY)

TOPIC = "letters"
GROUP = "shop/mail"
PARTITIONS = 4
PATIENCE = 10.0
CLAIM = 0.2
"""Seconds until the claim of a silent consumer ends in these tests."""


@pytest.fixture
async def broker(every_broker_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broker]:
    """An open one, with the topic, on which claims end soon."""
    for kind in ("redis", "memory"):
        monkeypatch.setattr(f"redfaust.brokers.{kind}.share_group.CLAIM_FOR", CLAIM)
    broker = broker_by_url(every_broker_url, default_partitions=PARTITIONS)
    await broker.open()
    await broker.create_topic(TopicSpec(TOPIC, PARTITIONS))
    yield broker
    await broker.close()


class Consumers:
    """Those of one group."""

    def __init__(self, broker: Broker, stack: AsyncExitStack) -> None:
        self._broker = broker
        self._stack = stack

    async def new(self, name: str, *, from_start: bool = True) -> ShareGroup:
        consumer = self._broker.share_group(GROUP, name)
        await consumer.join([TOPIC], from_start=from_start)
        self._stack.push_async_callback(consumer.close)
        return consumer


@pytest.fixture
async def consumers(broker: Broker) -> AsyncIterator[Consumers]:
    async with AsyncExitStack() as stack:
        yield Consumers(broker, stack)


async def append(broker: Broker, values: Iterable[bytes]) -> None:
    """Put them on all partitions in turn."""
    await broker.append(
        [Outgoing(TOPIC, value, partition=n % PARTITIONS) for n, value in enumerate(values)]
    )


def values(claims: Iterable[Claim]) -> list[bytes | None]:
    return [claim.record.value for claim in claims]


def offsets(claims: Iterable[Claim]) -> dict[TP, set[int]]:
    found: dict[TP, set[int]] = {}
    for claim in claims:
        found.setdefault(claim.tp, set()).add(claim.record.offset)
    return found


async def take_over_all(consumer: ShareGroup, count: int) -> Sequence[Claim]:
    """As soon as they can be: claims end without a word."""
    claims: list[Claim] = []
    async with asyncio.timeout(PATIENCE):
        while len(claims) < count:
            claims += await consumer.claim_stale(100)
            await asyncio.sleep(0.01)
    return claims


async def lag(broker: Broker) -> int:
    return sum(partition.lag for partition in await broker.status(GROUP, TOPIC))


async def claimed(broker: Broker) -> int:
    return sum(partition.claimed for partition in await broker.status(GROUP, TOPIC))


async def test_an_entry_goes_to_one_consumer(broker: Broker, consumers: Consumers) -> None:
    first, second = await consumers.new("first"), await consumers.new("second")
    await append(broker, [b"%d" % n for n in range(8)])
    taken = await first.claim(5, wait=0)
    taken = [*taken, *await second.claim(5, wait=0)]
    assert sorted(value or b"" for value in values(taken)) == [b"%d" % n for n in range(8)]
    assert {claim.deliveries for claim in taken} == {1}
    assert not await first.claim(1, wait=0)


async def test_no_more_is_taken_than_was_asked_for(broker: Broker, consumers: Consumers) -> None:
    consumer = await consumers.new("only")
    await append(broker, [b"%d" % n for n in range(20)])
    assert [len(await consumer.claim(3, wait=0)) for _ in range(7)] == [3] * 6 + [2]


async def test_no_partition_waits_for_another_to_be_empty(
    broker: Broker, consumers: Consumers
) -> None:
    consumer = await consumers.new("only")
    await append(broker, [b""] * PARTITIONS * 10)
    taken = [claim for _ in range(PARTITIONS) for claim in await consumer.claim(1, wait=0)]
    assert {claim.tp.partition for claim in taken} == set(range(PARTITIONS))


async def test_a_take_waits_for_news(broker: Broker, consumers: Consumers) -> None:
    consumer = await consumers.new("only")
    assert not await consumer.claim(1, wait=0)
    taking = asyncio.create_task(consumer.claim(8, wait=PATIENCE))
    await asyncio.sleep(0)
    await append(broker, [b"news"])
    assert values(await asyncio.wait_for(taking, PATIENCE)) == [b"news"]


async def test_a_waiting_take_can_be_woken(consumers: Consumers) -> None:
    consumer = await consumers.new("only")
    await consumer.claim(1, wait=0)
    taking = asyncio.create_task(consumer.claim(1, wait=PATIENCE * 10))
    while not taking.done():
        await consumer.wake()
        await asyncio.sleep(0)
    assert not taking.result()


async def test_what_is_settled_is_done(broker: Broker, consumers: Consumers) -> None:
    first, second = await consumers.new("first"), await consumers.new("second")
    await append(broker, [b"1", b"2", b"3"])
    assert (await lag(broker), await claimed(broker)) == (3, 0)
    claims = await first.claim(2, wait=0)
    claims = [*claims, *await first.claim(1, wait=0)]
    assert await lag(broker) == await claimed(broker) == 3
    await first.ack(offsets(claims[:1]))
    assert await lag(broker) == 2
    assert len(await take_over_all(second, 2)) == 2
    await second.ack(offsets(claims))
    assert await lag(broker) == 0


async def test_what_is_not_renewed_is_taken_over_and_counted(
    broker: Broker, consumers: Consumers
) -> None:
    dead, heir, next_heir = [await consumers.new(name) for name in ("dead", "heir", "next")]
    await append(broker, [b"1", b"2"])
    await dead.claim(2, wait=0)
    assert not await heir.claim_stale(100)
    taken = await take_over_all(heir, 2)
    assert sorted(value or b"" for value in values(taken)) == [b"1", b"2"]
    assert [claim.deliveries for claim in taken] == [2, 2]
    assert [claim.deliveries for claim in await take_over_all(next_heir, 2)] == [3, 3]


async def test_what_is_renewed_is_not_taken_over(broker: Broker, consumers: Consumers) -> None:
    holder, other = await consumers.new("holder"), await consumers.new("other")
    await append(broker, [b"held", b"let go"])
    claims = await holder.claim(2, wait=0)
    held = [claim for claim in claims if claim.record.value == b"held"]
    taken: list[Claim] = []
    async with asyncio.timeout(PATIENCE):
        while not taken:
            assert not await holder.renew(offsets(held))
            taken += await other.claim_stale(100)
    assert values(taken) == [b"let go"]
    assert await holder.renew(offsets(claims)) == offsets(taken)


async def test_who_has_lost_an_entry_can_do_nothing_about_it(
    broker: Broker, consumers: Consumers
) -> None:
    zombie, heir = await consumers.new("zombie"), await consumers.new("heir")
    await append(broker, [b"1"])
    claims = await zombie.claim(1, wait=0)
    [taken] = await take_over_all(heir, 1)
    await zombie.ack(offsets(claims))
    await zombie.release(offsets(claims))
    assert await zombie.renew(offsets(claims)) == offsets(claims)
    assert await lag(broker) == 1
    assert not await heir.renew(offsets([taken]))
    await heir.ack(offsets([taken]))
    assert await lag(broker) == 0
    assert await zombie.renew(offsets(claims)) == offsets(claims)


async def test_what_is_given_back_can_be_had_at_once(
    broker: Broker, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("redis", "memory"):
        monkeypatch.setattr(f"redfaust.brokers.{kind}.share_group.CLAIM_FOR", PATIENCE * 10)
    leaving, other = await consumers.new("leaving"), await consumers.new("other")
    await append(broker, [b"1"])
    claims = await leaving.claim(1, wait=0)
    await leaving.release(offsets(claims))
    [taken] = await other.claim_stale(100)
    assert taken.record == claims[0].record
    assert taken.deliveries == 1


async def test_a_claim_outlives_its_consumer(broker: Broker, consumers: Consumers) -> None:
    leaving, other = await consumers.new("leaving"), await consumers.new("other")
    await append(broker, [b"1"])
    await leaving.claim(1, wait=0)
    await leaving.close()
    assert values(await take_over_all(other, 1)) == [b"1"]


async def test_the_floor_is_the_oldest_claimed_entry(broker: Broker, consumers: Consumers) -> None:
    consumer, tp = await consumers.new("only"), TP(TOPIC, 0)
    await broker.append([Outgoing(TOPIC, b"%d" % n, partition=0) for n in range(3)])
    first, second, third = [claim.record.offset for claim in await consumer.claim(3, wait=0)]
    assert await broker.floors([tp]) == {tp: first}
    await consumer.ack({tp: [first, third]})
    assert await broker.floors([tp]) == {tp: second}
    await consumer.ack({tp: [second]})
    assert await broker.floors([tp]) == {tp: third + 1}


async def test_a_new_group_may_begin_at_the_end(broker: Broker, consumers: Consumers) -> None:
    await append(broker, [b"old"])
    consumer = await consumers.new("only", from_start=False)
    await append(broker, [b"new"])
    assert values(await consumer.claim(10, wait=0)) == [b"new"]


async def test_groups_do_not_compete(broker: Broker, consumers: Consumers) -> None:
    consumer, stranger = await consumers.new("only"), broker.share_group("shop/other", "only")
    await stranger.join([TOPIC], from_start=True)
    await append(broker, [b"1"])
    assert values(await consumer.claim(10, wait=0)) == [b"1"]
    assert values(await stranger.claim(10, wait=0)) == [b"1"]
    await stranger.close()


@pytest.mark.needs(Capability.MORE_PARTITIONS)
async def test_it_takes_from_new_partitions_from_their_beginning(
    broker: Broker, consumers: Consumers
) -> None:
    consumer = await consumers.new("only", from_start=False)
    assert await broker.groups([TOPIC, "unknown"]) == {TOPIC: {GROUP}, "unknown": frozenset()}
    await broker.open_topics({TOPIC: PARTITIONS + 2})
    await broker.append([Outgoing(TOPIC, b"1", partition=PARTITIONS + 1)])
    await consumer.join([TOPIC], from_start=False)
    assert values(await consumer.claim(9, wait=0)) == [b"1"]
