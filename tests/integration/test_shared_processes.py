"""Shared delivery among real processes: they are many, slow, killed, and stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from redfaust.brokers.broker import Broker, Outgoing, TopicSpec
from redfaust.transports.by_url import broker_by_url
from tests.integration.faust_apps import eventually
from tests.integration.shared_workers import (
    CLAIM,
    GROUP,
    PARTITIONS,
    Handler,
    Place,
    worker,
)
from tests.integration.test_batches import sent_to
from tests.rights import as_administrator


@pytest.fixture
async def place(empty_valkey_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("redfaust.brokers.redis.share_group.CLAIM_FOR", CLAIM)
    return Place(empty_valkey_url, database_url)


@pytest.fixture
async def broker(place: Place) -> AsyncIterator[Broker]:
    """With the topics, of which one has four partitions and the other one too."""
    broker = broker_by_url(place.broker, default_partitions=PARTITIONS)
    await broker.open()
    for topic in ("letters", "receipts"):
        await broker.create_topic(TopicSpec(topic, PARTITIONS))
    yield broker
    await broker.close()


@pytest.fixture
async def handler(place: Place) -> AsyncIterator[Handler]:
    async with Redis.from_url(as_administrator(place.broker), socket_timeout=None) as client:
        yield Handler(client)


async def send(broker: Broker, *numbers: int) -> None:
    """All with one key, and so on one partition."""
    await broker.append([Outgoing("letters", b"%d" % number, b"key") for number in numbers])


async def settled(broker: Broker) -> bool:
    return not any(partition.lag for partition in await broker.status(GROUP, "letters"))


async def all_sent_once(place: Place, broker: Broker, *numbers: int) -> None:
    """Return when each has its receipt, and everything is settled; fail if one has two."""

    async def receipts() -> list[int]:
        return sorted(int(value or b"") for value in await sent_to(place.broker, "receipts"))

    async def all_there() -> bool:
        return await settled(broker) and len(await receipts()) >= len(numbers)

    await eventually(all_there)
    assert await receipts() == sorted(numbers)


async def test_eight_events_of_one_partition_are_worked_on_at_a_time(
    place: Place, broker: Broker, handler: Handler
) -> None:
    await send(broker, *range(8))
    async with worker(place, concurrency=4) as first, worker(place, concurrency=4) as second:
        # None of them is finished before all of them are begun.
        together = [await handler.next_begun() for _ in range(8)]
        assert {begun.pid for begun in together} == {first.pid, second.pid}
        assert len({begun.number for begun in together}) == 8
        for begun in together:
            await handler.release(begun)
        await all_sent_once(place, broker, *range(8))


async def test_what_a_killed_worker_had_in_hand_is_done_by_another(
    place: Place, broker: Broker, handler: Handler
) -> None:
    await send(broker, 1, 2)
    async with worker(place, concurrency=2) as dying:
        held = {(await handler.next_begun()).number for _ in range(2)}
        dying.kill()
        dying.join()
        async with worker(place, concurrency=2) as heir:
            again = [await handler.next_begun() for _ in range(2)]
            assert {begun.number for begun in again} == held == {1, 2}
            assert {(begun.pid, begun.deliveries) for begun in again} == {(heir.pid, 2)}
            for begun in again:
                await handler.release(begun)
            await all_sent_once(place, broker, 1, 2)


async def test_who_was_stopped_for_longer_than_his_claims_changes_nothing(
    place: Place, broker: Broker, handler: Handler
) -> None:
    await send(broker, 1)
    async with worker(place, concurrency=1) as zombie, worker(place, concurrency=1) as other:
        held = await handler.next_begun()
        pids = {zombie.pid, other.pid}
        os.kill(held.pid, signal.SIGSTOP)
        by_heir = await handler.next_begun()
        assert {held.pid, by_heir.pid} == pids
        await handler.release(by_heir)
        await all_sent_once(place, broker, 1)
        os.kill(held.pid, signal.SIGCONT)
        await handler.release(held)
        await handler.has_finished(held)
        # It goes on as before: while its heir is busy, the next event is its own.
        await send(broker, 2, 3)
        after = [await handler.next_begun() for _ in range(2)]
        assert {begun.pid for begun in after} == pids
        for begun in after:
            await handler.release(begun)
        await all_sent_once(place, broker, 1, 2, 3)


async def test_who_is_only_slow_keeps_his_events(
    place: Place, broker: Broker, handler: Handler
) -> None:
    await send(broker, 1)
    async with worker(place, concurrency=1):
        slow = await handler.next_begun()
        dead = broker.share_group(GROUP, "dead")
        await dead.join(["letters"], from_start=True)
        await send(broker, 2)
        assert len(await dead.claim(1, wait=0)) == 1
        async with worker(place, concurrency=1) as idle:
            # That this claim has ended tells that the other one's, which is older, would have too.
            begun = await handler.next_begun()
            assert begun == (idle.pid, 2, 2)
            await handler.release(begun)
            await handler.release(slow)
            await all_sent_once(place, broker, 1, 2)
        await dead.close()
