"""A log that takes nothing holds back what is for it, and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import suppress

import pytest
from faust.types import TP
from redis.asyncio import Redis

from redfaust.brokers.broker import (
    LogsBlocked,
    LogTruncated,
    Outgoing,
    Place,
    ProducerBatch,
    TopicSpec,
)
from redfaust.brokers.partitioner import partition_of_sequenced
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.errors import BrokerUnavailable
from redfaust.outbox.outbox import Outbox
from redfaust.outbox.producers import ProducerState
from redfaust.outbox.publisher import Publisher
from redfaust.outbox.relay import Relay
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from tests.integration.outbox_streams import (
    TIMEOUT,
    commit,
    drained,
    eventually,
    is_active,
    new_publisher,
    new_relay,
    publishing,
    running,
)
from tests.rights import as_administrator

PARTITIONS = 2
GOOD, BAD = TP("orders", 0), TP("orders", 1)
REASON = "{orders:1}:producers is a string"


class Logs:
    """Two logs, one of which can be blocked."""

    def __init__(self) -> None:
        self.entries: dict[TP, list[bytes | None]] = defaultdict(list)
        self.all_marks: dict[tuple[str, TP], int] = {}
        self.stuck: set[TP] = set()
        self.fails_with: bytes | None = None
        """The value that is not appended at the first attempt, since nobody answers."""
        self.forgotten = False
        """Whether the catalog has lost the topic."""
        self.asked = 0
        """How often something was to be appended."""

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        self.asked += 1
        places: dict[str, dict[TP, Place]] = defaultdict(dict)
        blocked: dict[TP, str] = {}
        for producer_id, entries, after in batches:
            for number, entry in entries:
                tp = TP(entry.topic, partition_of_sequenced(entry.key, number, PARTITIONS))
                if tp in self.stuck:
                    blocked[tp] = REASON
                    continue
                if entry.value == self.fails_with:
                    self.fails_with = None
                    raise BrokerUnavailable("away for a moment")
                last_sequence = self.all_marks.get((producer_id, tp), 0)
                if last_sequence < after.get(tp, 0):
                    raise LogTruncated([producer_id])
                if number > last_sequence:
                    self.entries[tp].append(entry.value)
                    self.all_marks[producer_id, tp] = number
                places[producer_id][tp] = Place(
                    self.all_marks[producer_id, tp], len(self.entries[tp])
                )
        if blocked:
            raise LogsBlocked(blocked, places)
        return places

    async def last_sequences(self, producer_ids: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        found: dict[str, dict[TP, int]] = {producer_id: {} for producer_id in producer_ids}
        for (producer_id, tp), last_sequence in self.all_marks.items():
            if producer_id in found and tp not in self.stuck:
                found[producer_id][tp] = last_sequence
        return found

    async def blocked(self, tps: Collection[TP]) -> Mapping[TP, str]:
        return {tp: REASON for tp in tps if tp in self.stuck}

    async def topics(self) -> Mapping[str, int]:
        return {} if self.forgotten else {"orders": PARTITIONS}

    async def identity(self) -> str:
        return "log"

    async def incarnation(self) -> str:
        return "the same"

    async def floors(self, _: Iterable[TP]) -> Mapping[TP, int]:
        return {}

    def values(self, tp: TP) -> list[bytes | None]:
        return self.entries[tp]


KEY_OF = {GOOD: b"c", BAD: b"d"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.05)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url)
    await migrate(database)
    yield database
    await database.close()


def test_the_keys_belong_to_these_logs() -> None:
    for tp, key in KEY_OF.items():
        assert partition_of_sequenced(key, 1, PARTITIONS) == tp.partition


async def publish(database: Database, *tps_and_values: tuple[TP, bytes]) -> None:
    async with Outbox(database).transaction() as tx:
        for tp, value in tps_and_values:
            await tx.publish("orders", value, key=KEY_OF[tp])


async def letters(database: Database) -> int:
    count: int = await database.pool.fetchval("SELECT count(*) FROM redfaust.dead_letters")
    return count


async def test_a_blocked_log_holds_back_its_own_entries_alone(database: Database) -> None:
    logs = Logs()
    logs.stuck = {BAD}
    async with running(database, logs, poll=0.05) as relay:
        await is_active(relay)
        for number in range(5):
            await publish(database, (BAD, b"bad %d" % number), (GOOD, b"good %d" % number))
        await eventually(lambda: has(logs, GOOD, 5))
        assert relay.blocked == {BAD: REASON}
        assert logs.values(BAD) == []

        logs.stuck = set()
        await eventually(lambda: has(logs, BAD, 5))
        await publish(database, (BAD, b"bad 5"))
        await eventually(lambda: has(logs, BAD, 6))
        await drained(database)
    assert logs.values(BAD) == [b"bad %d" % number for number in range(6)]
    assert logs.values(GOOD) == [b"good %d" % number for number in range(5)]
    assert relay.blocked == {}
    assert await letters(database) == 0


async def test_a_relay_that_is_started_meanwhile_holds_back_too(database: Database) -> None:
    logs = Logs()
    logs.stuck = {BAD}
    for round_ in range(2):
        async with running(database, logs, poll=0.05) as relay:
            await is_active(relay)
            await publish(database, (BAD, b"bad %d" % round_), (GOOD, b"good %d" % round_))
            await eventually(lambda: has(logs, GOOD, round_ + 1))  # noqa: B023 - awaited here
    logs.stuck = set()
    async with running(database, logs, poll=0.05):
        await eventually(lambda: has(logs, BAD, 2))
        await drained(database)
    assert logs.values(BAD) == [b"bad 0", b"bad 1"]
    assert logs.values(GOOD) == [b"good 0", b"good 1"]


async def test_what_was_published_before_its_log_was_blocked_is_no_dead_letter(
    database: Database,
) -> None:
    logs = Logs()
    async with running(database, logs, poll=0.05):
        await publish(database, (BAD, b"1"), (GOOD, b"2"))
        await drained(database)
    logs.stuck = {BAD}
    async with running(database, logs, poll=0.05) as relay:
        await eventually(lambda: blocks(relay, BAD))
        asked = logs.asked
        await publish(database, (GOOD, b"3"))
        await eventually(lambda: has(logs, GOOD, 2))
        assert logs.asked <= asked + 2, "what cannot be appended is not tried all the time"
    # The key is deleted, and with it the last sequences: what is kept is appended again.
    logs.stuck = set()
    del logs.all_marks[next(place for place in logs.all_marks if place[1] == BAD)]
    async with running(database, logs, poll=0.05):
        await eventually(lambda: has(logs, BAD, 2))
    assert logs.values(BAD) == [b"1", b"1"]  # which readers know by its number
    assert await letters(database) == 0


async def test_an_owner_goes_on_beside_a_blocked_log(database: Database) -> None:
    logs = Logs()
    logs.stuck = {BAD}
    publisher = new_publisher(database, logs)
    producer = (await publisher.take_over(["shop/orders/0"]))["shop/orders/0"]
    async with publishing(publisher):
        for number in range(3):
            producer = await send(database, publisher, producer, number)
        async with asyncio.timeout(10):
            await publisher.drained()
            await publisher.has_room()
        assert logs.values(GOOD) == [b"good 0", b"good 1", b"good 2"]
        assert publisher.blocked == {BAD: REASON}
        logs.stuck = set()
        await eventually(lambda: has(logs, BAD, 3))
        producer = await send(database, publisher, producer, 3)
        await eventually(lambda: has(logs, BAD, 4))
        await drained(database)
    assert logs.values(BAD) == [b"bad 0", b"bad 1", b"bad 2", b"bad 3"]


@pytest.mark.parametrize("fails_with", [b"bad 0", b"bad 1", b"bad 2", b"bad 3"])
async def test_nothing_passes_what_was_held_back_where_the_broker_fails_just_then(
    database: Database, monkeypatch: pytest.MonkeyPatch, fails_with: bytes
) -> None:
    monkeypatch.setattr("redfaust.outbox.batch_publisher.PAGE", 1)
    monkeypatch.setattr("redfaust.outbox.publisher.RETRY_EVERY", 0.0)
    logs = Logs()
    logs.stuck = {BAD}
    publisher = new_publisher(database, logs)
    producer = (await publisher.take_over(["shop/orders/0"]))["shop/orders/0"]
    async with publishing(publisher):
        for number in range(3):
            producer = await send(database, publisher, producer, number)
        await eventually(lambda: has(logs, GOOD, 3))
        logs.stuck, logs.fails_with = set(), fails_with
        await eventually(lambda: has(logs, BAD, 1))
        for number in range(3, 10):
            producer = await send(database, publisher, producer, number)
        await eventually(lambda: has(logs, GOOD, 10))
        await drained(database)
    assert logs.values(BAD) == [b"bad %d" % number for number in range(10)]
    assert logs.values(GOOD) == [b"good %d" % number for number in range(10)]


async def test_a_blocked_log_is_named_once_however_many_producers_wait_for_it(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("redfaust.outbox.batch_publisher.LEFT_AGAIN_AFTER", 0.0)
    monkeypatch.setattr("redfaust.outbox.maintenance.LEFT_AFTER", 0.0)
    monkeypatch.setattr("redfaust.outbox.batch_cleaner.KEEP_FOR", 0.0)
    logs = Logs()
    owners = [f"shop/orders/{number}" for number in range(3)]
    producers = dict(await new_publisher(database, logs).take_over(owners))
    async with running(database, logs, poll=0.01) as relay:
        for owner in owners:
            producers |= {owner: await left(database, producers[owner], 0)}
        await drained(database)
        logs.stuck = {BAD}  # and what was published there cannot be seen any more
        for owner in owners:
            await left(database, producers[owner], 1)
        await eventually(lambda: has(logs, GOOD, 2 * len(owners)))
        rounds = logs.asked
        await eventually(lambda: looks(logs, rounds + 20))
        assert relay.blocked == {BAD: REASON}
        logs.stuck = set()
        await drained(database)
        await eventually(lambda: is_free(relay))
    told = [record.message for record in caplog.records if "orders 1" in record.message]
    assert told == [
        f"orders 1 takes no entries, which wait: {REASON}",
        "orders 1 takes entries again",
    ]


class Moody(Logs):
    """Blocks its logs and goes away at random, before, between and after what it appends."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.is_moody = True

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        await self._be_moody()
        if self.is_moody and self.random.random() < 0.1:
            some = [
                batch._replace(entries=batch.entries[: self.random.randint(0, len(batch.entries))])
                for batch in batches
            ]
            await super().append_once(some)
            raise BrokerUnavailable("away in between")
        places = await super().append_once(batches)
        await self._be_moody()
        return places

    async def _be_moody(self) -> None:
        await asyncio.sleep(0)
        if not self.is_moody:
            self.stuck = set()
            return
        if self.random.random() < 0.3:
            self.stuck ^= {self.random.choice([GOOD, BAD])}
        if self.random.random() < 0.1:
            raise BrokerUnavailable("away")


@pytest.mark.parametrize("seed", range(3))
async def test_owner_and_relay_keep_the_order_of_logs_that_are_blocked_at_random(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 0.002)
    monkeypatch.setattr("redfaust.outbox.maintenance.LEFT_AFTER", 0.0)
    monkeypatch.setattr("redfaust.outbox.batch_publisher.LEFT_AGAIN_AFTER", 0.0)
    monkeypatch.setattr("redfaust.outbox.batch_publisher.PAGE", 2)
    monkeypatch.setattr("redfaust.outbox.publisher.RETRY_EVERY", 0.0)
    logs = Moody(seed)
    publisher = new_publisher(database, logs)
    producer = await take_over(publisher)
    stop = asyncio.Event()

    async def relay() -> None:
        relay = new_relay(database, logs, poll=0.001)
        while not stop.is_set():
            with suppress(BrokerUnavailable):
                await relay.run(stop)

    relaying = asyncio.create_task(relay())
    async with publishing(publisher):
        for number in range(100):
            producer = await send(database, publisher, producer, number)
        logs.is_moody = False
        await drained(database)
    stop.set()
    await relaying
    assert logs.values(BAD) == [b"bad %d" % number for number in range(100)]
    assert logs.values(GOOD) == [b"good %d" % number for number in range(100)]


async def take_over(publisher: Publisher) -> ProducerState:
    while True:
        with suppress(BrokerUnavailable):
            return (await publisher.take_over(["shop/orders/0"]))["shop/orders/0"]


async def left(database: Database, producer: ProducerState, number: int) -> ProducerState:
    """Commit one entry for each log, and leave it to others to publish them."""
    entries = [Outgoing("orders", b"%d" % number, key) for key in KEY_OF.values()]
    return producer._replace(
        last_sequence=(await commit(database, producer, entries=entries)).last_sequence
    )


async def looks(logs: Logs, count: int) -> bool:
    return logs.asked >= count


async def is_free(relay: Relay) -> bool:
    return not relay.blocked


async def send(
    database: Database, publisher: Publisher, producer: ProducerState, number: int
) -> ProducerState:
    """Commit and publish one entry for each log."""
    entries = [
        Outgoing("orders", b"bad %d" % number, KEY_OF[BAD]),
        Outgoing("orders", b"good %d" % number, KEY_OF[GOOD]),
    ]
    batch = await commit(database, producer, entries=entries)
    publisher.put([batch])
    return producer._replace(last_sequence=batch.last_sequence)


async def has(logs: Logs, tp: TP, count: int) -> bool:
    return len(logs.values(tp)) >= count


async def blocks(publishing_: object, tp: TP) -> bool:
    return tp in publishing_.blocked  # type: ignore[attr-defined]


async def test_no_processed_event_becomes_a_dead_letter_while_its_log_is_blocked_in_redis(
    database: Database, broker_url: str
) -> None:
    """Another type at the key of the last sequences, a relay that is started anew, then the key
    deleted."""
    broker = RedisBroker(broker_url, default_partitions=PARTITIONS)
    await broker.open()
    await broker.create_topic(TopicSpec("orders", PARTITIONS))
    last_sequences = keys.producers(BAD)
    try:
        async with running(database, broker):
            await publish(database, (BAD, b"1"), (GOOD, b"2"))
            await drained(database)
        async with Redis.from_url(as_administrator(broker_url)) as client:
            await client.set(last_sequences, "x")
            async with running(database, broker, poll=0.05) as relay:
                await eventually(lambda: blocks(relay, BAD))
                await publish(database, (BAD, b"3"), (GOOD, b"4"))
                await eventually(lambda: lies(broker, GOOD, [b"2", b"4"]))
                assert last_sequences in relay.blocked[BAD]
                await client.delete(last_sequences)
                await drained(database)
        assert await letters(database) == 0
        assert await lies(broker, BAD, [b"1", b"1", b"3"])  # readers know the second by its number
    finally:
        await broker.close()


async def lies(broker: RedisBroker, tp: TP, values: Sequence[bytes]) -> bool:
    read = await broker.read({tp: 0}, limit=100, wait=0)
    return [record.value for record in read.get(tp, ())] == values


class TwoViews(Logs):
    """Asked one way it has lost entries, and asked another way it has not."""

    lost = False

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        if self.lost:
            raise LogTruncated([batch.producer_id for batch in batches])
        return await super().append_once(batches)


async def test_a_loss_that_is_seen_one_way_alone_is_waited_out(database: Database) -> None:
    logs = TwoViews()
    logs.lost = True
    await publish(database, (GOOD, b"good"))
    with pytest.raises(BrokerUnavailable, match="again and again"):
        await asyncio.wait_for(new_relay(database, logs).run(asyncio.Event()), TIMEOUT)
    logs.lost = False
    async with running(database, logs, poll=0.05):
        await eventually(lambda: has(logs, GOOD, 1))


async def test_nothing_passes_what_is_held_back_while_the_catalog_has_lost_the_topic(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.outbox.maintenance.EVERY", 3600.0)
    logs = Logs()
    logs.stuck = {BAD}

    async def has_been_asked(times: int) -> bool:
        return logs.asked >= times

    async with running(database, logs, poll=0.05) as relay:
        await is_active(relay)
        await publish(database, (BAD, b"bad 0"))
        await eventually(lambda: is_held(relay))
        logs.stuck, logs.forgotten = set(), True
        before = logs.asked
        await publish(database, (BAD, b"bad 1"))
        await eventually(lambda: has_been_asked(before + 1))
    logs.forgotten = False
    async with running(database, logs, poll=0.05):
        await eventually(lambda: has(logs, BAD, 2))
    assert logs.values(BAD) == [b"bad 0", b"bad 1"]


async def is_held(relay: Relay) -> bool:
    return bool(relay.blocked)
