"""The secret with which sequences are signed: what happens when somebody deletes or replaces it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest
from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.broker import Outgoing, ProducerBatch, SequencedEntry
from redfaust.brokers.redis import RedisBroker
from redfaust.brokers.redis import sequences as redis_sequences
from redfaust.brokers.redis.keys import SECRETS
from redfaust.brokers.redis.sequences import KEPT, Sequences
from tests.rights import as_administrator

EVENTS = TP("events", 0)
STREAM, MARKS = b"{events:0}", "{events:0}:producers"

NewBroker = Callable[[], RedisBroker]


@pytest.fixture
async def redis(broker_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(as_administrator(broker_url), protocol=2) as client:
        yield client


@pytest.fixture
async def new_broker(broker_url: str) -> AsyncIterator[NewBroker]:
    """A broker as another process has it."""
    brokers: list[RedisBroker] = []

    def new() -> RedisBroker:
        brokers.append(RedisBroker(broker_url, default_partitions=1))
        return brokers[-1]

    yield new
    for broker in brokers:
        await broker.close()


@pytest.fixture
def looks_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if those seconds had passed in which the secrets need no look."""
    monkeypatch.setattr(redis_sequences, "KNOWN_FOR", 0.0)


async def send(broker: RedisBroker, number: int) -> None:
    await broker.append_once(
        [ProducerBatch("producer_id", [SequencedEntry(number, Outgoing("events", b"x"))])]
    )


async def sources(broker: RedisBroker) -> list[tuple[str, int] | None]:
    found = await broker.read({EVENTS: 1}, limit=100, wait=0)
    return [record.source for record in found.get(EVENTS, ())]


async def test_a_secret_is_drawn_once_for_all(new_broker: NewBroker, redis: Redis) -> None:
    first, second = new_broker(), new_broker()
    await send(first, 1)
    secret = await redis.get(SECRETS)
    await send(second, 2)
    assert await redis.get(SECRETS) == secret
    assert await sources(first) == await sources(second) == [("producer_id", 1), ("producer_id", 2)]


async def test_a_secret_is_of_one_broker(
    new_broker: NewBroker, redis: Redis, looks_each_time: None
) -> None:
    await send(new_broker(), 1)
    secret = await redis.get(SECRETS)
    await redis.flushall()
    await send(new_broker(), 1)
    assert await redis.get(SECRETS) not in (None, secret)


async def test_a_secret_that_is_deleted_is_put_back_by_who_knows_it(
    new_broker: NewBroker, redis: Redis, looks_each_time: None
) -> None:
    knows = new_broker()
    await send(knows, 1)
    secret = await redis.get(SECRETS)
    await redis.delete(SECRETS)
    await send(knows, 2)
    assert await redis.get(SECRETS) == secret
    assert await sources(new_broker()) == [("producer_id", 1), ("producer_id", 2)]


async def test_where_another_secret_was_drawn_meanwhile_both_verify(
    new_broker: NewBroker, redis: Redis, looks_each_time: None
) -> None:
    knows, new = new_broker(), new_broker()
    await send(knows, 1)
    await redis.delete(SECRETS)
    await new.append([Outgoing("events", b"x")])
    assert await sources(new) == [None, None], "it cannot know better yet"
    assert await sources(knows) == [("producer_id", 1), None]
    await send(new, 2)
    expected = [("producer_id", 1), None, ("producer_id", 2)]
    for broker in (knows, new, new_broker()):
        assert await sources(broker) == expected
    assert (
        await knows.last_sequences(["producer_id"])
        == await new.last_sequences(["producer_id"])
        == {"producer_id": {EVENTS: 2}}
    )


async def test_a_reader_learns_of_a_new_secret_by_what_it_has_signed(
    new_broker: NewBroker, redis: Redis
) -> None:
    reader = new_broker()
    await send(reader, 1)
    await redis.delete(SECRETS)
    await redis.delete(MARKS)
    await send(new_broker(), 2)
    assert await sources(reader) == [("producer_id", 1), ("producer_id", 2)]
    assert await reader.last_sequences(["producer_id"]) == {"producer_id": {EVENTS: 2}}
    assert await sources(new_broker()) == [("producer_id", 1), ("producer_id", 2)]


@pytest.mark.parametrize("wrong", ["", "mine", "0" * 64 + "0", "z" * 64, "0" * 100_000, None])
async def test_what_is_no_secret_is_replaced(
    new_broker: NewBroker, redis: Redis, wrong: str | None
) -> None:
    if wrong is None:
        await redis.hset(SECRETS, "mine", "mine")
    else:
        await redis.set(SECRETS, wrong)
    await send(new_broker(), 1)
    assert await sources(new_broker()) == [("producer_id", 1)]


async def test_secrets_that_are_kept_are_few(redis: Redis) -> None:
    sequences = Sequences(redis)
    texts = [f"{number:064x}" for number in range(2 * KEPT)]
    for text in texts:
        await redis.set(SECRETS, text)
        await sequences.renew()
    kept = cast("bytes", await redis.get(SECRETS)).decode().split()
    assert len(kept) == KEPT
    assert kept[0] == texts[-1]
    assert set(kept) <= set(texts)
