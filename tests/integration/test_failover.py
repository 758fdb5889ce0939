"""Redis fails over to a replica that lacks the latest entries: what it lacks is published again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.broker import Outgoing
from redfaust.brokers.redis import RedisBroker
from redfaust.brokers.redis.offsets import BEGINNING
from redfaust.errors import BrokerUnavailable, DatabaseUnavailable
from redfaust.outbox.outbox import Outbox, outbox_status
from redfaust.outbox.producers import ProducerState, stage
from redfaust.outbox.publisher import Publisher
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from tests.conftest import REDIS_SERVER
from tests.integration.outbox_streams import (
    eventually,
    new_publisher,
    new_relay,
    publishing,
)
from tests.integration.redis_pair import Pair, running_pair

TIMEOUT = 30.0
OWNERS = ["shop/orders/0", "shop/orders/1"]
KEYS = 4
"""Of each producer."""
AN_HOUR = 3_600_000


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture(params=["valkey", "redis"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    if request.param == "redis" and REDIS_SERVER is None:
        pytest.skip("Debian's redis-server is not installed")
    binary = Path(REDIS_SERVER) if request.param == "redis" and REDIS_SERVER else None
    async with running_pair(tmp_path, binary) as pair:
        yield pair


@pytest.fixture
async def broker(pair: Pair) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(pair.url, default_partitions=1)
    yield broker
    await broker.close()


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.1)
    monkeypatch.setattr("redfaust.outbox.publisher.RETRY_EVERY", 0.05)


class Sender:
    """An owner of two producers, and an application whose outbox a relay carries."""

    def __init__(self, database: Database, broker: RedisBroker) -> None:
        self._database = database
        self.publisher: Publisher = new_publisher(database, broker)
        self._producer_states: dict[str, ProducerState] = {}
        self.sent = 0

    async def take_over(self) -> None:
        self._producer_states = dict(await self.publisher.take_over(OWNERS))

    async def send(self, rounds: int = 1) -> None:
        """One entry for each key of each producer."""
        for _ in range(rounds):
            async with self._database.transaction() as connection:
                staged = await stage(
                    connection,
                    {
                        producer.id: (producer.last_sequence, list(self._entries(owner)))
                        for owner, producer in self._producer_states.items()
                    },
                )
            self.publisher.put(staged)
            for owner, batch in zip(self._producer_states, staged, strict=True):
                self._producer_states[owner] = ProducerState(batch.producer_id, batch.last_sequence)
            async with Outbox(self._database).transaction() as tx:
                for entry in self._entries("outbox"):
                    await tx.publish(entry.topic, entry.value, key=entry.key)
            self.sent += 1
            await self.publisher.has_room()

    def _entries(self, producer: str) -> Sequence[Outgoing]:
        return [
            Outgoing("events", b"%d" % self.sent, b"%s %d" % (producer.encode(), key))
            for key in range(KEYS)
        ]


@asynccontextmanager
async def relaying(database: Database, broker: RedisBroker) -> AsyncIterator[None]:
    """A relay that is started again when it has lost its servers, as the command does."""
    stop = asyncio.Event()

    async def run() -> None:
        while not stop.is_set():
            try:
                await new_relay(database, broker, poll=0.05).run(stop)
            except (BrokerUnavailable, DatabaseUnavailable):
                await asyncio.sleep(0.05)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, TIMEOUT)


async def everything_is_published(database: Database) -> None:
    async def nothing_waits() -> bool:
        return (await outbox_status(database)).depth == 0

    await eventually(nothing_waits)


async def values(url: str) -> dict[bytes | None, list[int]]:
    """By key, what its entries say in their order."""
    broker = RedisBroker(url, default_partitions=1)
    try:
        logs = await broker.read({TP("events", 0): BEGINNING}, limit=10**6, wait=0)
    finally:
        await broker.close()
    found: dict[bytes | None, list[int]] = {}
    for record in logs.get(TP("events", 0), []):
        found.setdefault(record.key, []).append(int(record.value or b""))
    return found


async def each_is_there_once_and_in_order(url: str, sent: int) -> None:
    """Wait for it: what an idle producer has lost, only housekeeping finds out."""
    expected = {
        b"%s %d" % (producer.encode(), key): list(range(sent))
        for producer in [*OWNERS, "outbox"]
        for key in range(KEYS)
    }

    async def all_there() -> bool:
        return sum(map(len, (await values(url)).values())) >= sent * len(expected)

    await eventually(all_there)
    assert await values(url) == expected


async def something_is_lost(pair: Pair) -> None:
    """Or the test would prove nothing."""
    async with Redis.from_url(pair.first.url) as first, Redis.from_url(pair.second.url) as second:
        assert await second.xlen("{events:0}") < await first.xlen("{events:0}")


async def put_ahead(pair: Pair) -> None:
    """Let the first's clock be an hour ahead, as far as its streams tell."""
    async with Redis.from_url(pair.first.url) as first:
        await first.xgroup_create("{events:0}", "reader", mkstream=True)
        await first.execute_command(  # type: ignore[no-untyped-call]
            "XSETID", "{events:0}", f"{int(time.time() * 1000) + AN_HOUR}-0"
        )


@pytest.mark.parametrize("clock", ["", "behind"], ids=["same clock", "clock an hour behind"])
async def test_a_promoted_replica_gets_what_it_lacks(
    database: Database, broker: RedisBroker, pair: Pair, clock: str
) -> None:
    if clock:
        await put_ahead(pair)
    sender = Sender(database, broker)
    await sender.take_over()
    async with relaying(database, broker), publishing(sender.publisher):
        await sender.send(20)
        await everything_is_published(database)
        await pair.cut_off_first()
        await sender.send(20)
        await everything_is_published(database)
        await something_is_lost(pair)
        await pair.promote_second()
        await sender.send(20)
        await everything_is_published(database)
        await each_is_there_once_and_in_order(pair.second.url, 60)


async def test_a_promoted_replica_gets_what_idle_producers_have_lost(
    database: Database, broker: RedisBroker, pair: Pair
) -> None:
    sender = Sender(database, broker)
    await sender.take_over()
    async with relaying(database, broker), publishing(sender.publisher):
        await pair.cut_off_first()
        await sender.send(10)
        await everything_is_published(database)
        await something_is_lost(pair)
        await pair.promote_second()
        await each_is_there_once_and_in_order(pair.second.url, 10)


@pytest.mark.parametrize("pair", ["valkey"], indirect=True)
async def test_an_owner_that_dies_in_a_failover_leaves_it_to_its_heir(
    database: Database, broker: RedisBroker, pair: Pair
) -> None:
    sender = Sender(database, broker)
    await sender.take_over()
    async with relaying(database, broker):
        async with publishing(sender.publisher):
            await sender.send(10)
            await everything_is_published(database)
            await pair.cut_off_first()
            await sender.send(10)
            await everything_is_published(database)
            await something_is_lost(pair)
        await sender.send(10)
        await pair.promote_second()
        heir = Sender(database, broker)
        heir.sent = sender.sent
        await heir.take_over()
        async with publishing(heir.publisher):
            await heir.send(10)
            await each_is_there_once_and_in_order(pair.second.url, 40)
