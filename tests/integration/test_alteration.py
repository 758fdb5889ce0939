"""More partitions for an application at rest: its rows follow, and every key goes on in order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, cast

import faust
import orjson
import pytest
from faust.types import TP

from redfaust import failpoints
from redfaust.brokers.broker import Broker, Heartbeat, Outgoing, TopicSpec
from redfaust.brokers.memory.broker import Log, _logs
from redfaust.brokers.partitioner import partition_of
from redfaust.errors import AlterationRefused, PartitionsDiffer, TopicClosed
from redfaust.outbox.batch_publisher import BatchPublisher
from redfaust.outbox.outbox import Outbox
from redfaust.outbox.relay import Relay
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.processing.dead_letters import DeadLetters
from redfaust.processing.retries import NO_RETRIES, Retries
from redfaust.tables.alteration import Altered, alter_partitions
from redfaust.transports.by_url import broker_by_url
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import PATIENCE, eventually, running
from tests.integration.outbox_streams import drained, is_active, nothing_is_refused
from tests.integration.test_batches import fetch
from tests.integration.test_failures_agents import all_finished

KEYS = [f"key-{n}" for n in range(50)]
POISON = 666
IN_MEMORY = pytest.mark.parametrize("any_broker_url", ["memory"], indirect=True)
AND_IN_VALKEY = pytest.mark.parametrize("any_broker_url", ["memory", "valkey"], indirect=True)
LONG = 1e9
"""Seconds of a window: longer than this test, whenever it is run."""


@pytest.fixture(autouse=True)
def settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else appends here; the contract's tests are about those who do."""
    monkeypatch.setattr("redfaust.brokers.redis.topics.SETTLE_FOR", 0.0)
    monkeypatch.setattr("redfaust.brokers.redis.topics.KNOWN_FOR", 0.0)


class Shop:
    """Notes the numbers of each key, counts them in windows, and sends copies to be noted."""

    def __init__(
        self, broker: str, database: str, *, name: str = "test", delay: float = 0.0
    ) -> None:
        self.app = app = faust.App(
            name, broker=broker, store=database, web_enabled=False, topic_partitions=4
        )
        self.numbers = app.topic("numbers", key_type=str)
        copies = app.topic("copies", key_type=str)
        noted = app.Table("noted", key_type=str, value_type=list, default=list)
        cached = app.Table("cached", key_type=str, default=int, options={"cached_rows": 200})
        copied = app.Table("copied", key_type=str, value_type=list, default=list)
        windowed = app.Table("windowed", key_type=str, default=int).tumbling(LONG)
        own = app.Table("own", key_type=str, default=int, use_partitioner=True)
        retries = Retries(attempts=2, delay=delay) if delay else NO_RETRIES

        @app.agent(self.numbers, retries=retries)
        async def note(stream: Any) -> None:
            async for event in stream.events():
                key, number = event.key, event.value
                if number == POISON:
                    raise ValueError(number)
                noted[key] = [*noted[key], number]
                cached[key] += 1
                windowed[key] += 1
                own[f"partition {event.message.partition}"] += 1
                await copies.send(key=key, value=number)

        @app.agent(copies)
        async def copy(stream: Any) -> None:
            async for key, number in stream.items():
                copied[key] = [*copied[key], number]


class Place:
    """A broker and a database, and what should be in them."""

    def __init__(self, broker_url: str, database_url: str, database: Database) -> None:
        self.broker_url, self.database_url = broker_url, database_url
        self.database = database
        self.expected: defaultdict[str, list[int]] = defaultdict(list)
        self.sent = 0

    def broker(self) -> Broker:
        return broker_by_url(self.broker_url, default_partitions=4)

    def shop(self, **options: Any) -> Shop:
        return Shop(self.broker_url, self.database_url, **options)

    async def work(self, *, workers: int = 1) -> None:
        """Have some numbers processed, and what they send, and come to rest."""
        shops = [self.shop() for _ in range(workers)]
        shop = shops[0]
        async with AsyncExitStack() as stack:
            for each in shops:
                await stack.enter_async_context(running(each.app))
            await eventually(lambda: all(each.app.consumer.assignment() for each in shops))
            for key in KEYS:
                for _ in range(3):
                    await shop.numbers.send(key=key, value=self.sent)
                    self.expected[key].append(self.sent)
                    self.sent += 1
            await eventually(self.all_is_noted)
            for each in shops:
                await eventually(partial(all_finished, each.app, "numbers"))
                await eventually(partial(all_finished, each.app, "copies"))

    async def all_is_noted(self) -> bool:
        with suppress(Exception):  # no tables yet
            return await self.lists("noted") == await self.lists("copied") == self.expected
        return False

    async def lists(self, table: str) -> Mapping[str, list[int]]:
        rows = await fetch(self.database_url, f"SELECT key, value FROM test.{table}")
        return {key: orjson.loads(value) for key, value in rows}

    async def partitions(self, table: str, key: str = "key") -> Mapping[str, int]:
        return dict(await fetch(self.database_url, f"SELECT {key}, partition FROM test.{table}"))

    async def alter(self, partitions: int) -> Altered:
        altering = alter_partitions(self.shop().app, partitions, left_alone=["own"])
        return await asyncio.wait_for(altering, PATIENCE)

    async def refuses(self, partitions: int = 8) -> str:
        """Why; and that nothing has changed by trying."""
        before = await self._state()
        with pytest.raises(AlterationRefused) as refusal:
            await self.alter(partitions)
        assert await self._state() == before
        return str(refusal.value)

    async def _state(self) -> object:
        broker = self.broker()
        counts = await broker.topics()
        for topic, count in counts.items():
            assert await broker.create_topic(TopicSpec(topic, count)) == count  # it is open
        await broker.close()
        return counts, await self.partitions("noted")

    async def append(self, *entries: Outgoing) -> None:
        broker = self.broker()
        await broker.append(entries)
        await broker.close()

    async def everything_is_right(self, partitions: int) -> None:
        assert await self.all_is_noted()
        belong = {key: partition_of(key.encode(), partitions) for key in KEYS}
        assert len(set(belong.values())) == partitions
        for table in ("noted", "copied", "cached"):
            assert await self.partitions(table) == belong
        assert await self.partitions("windowed", "key->>0") == belong
        assert sum(await self.counts("own")) == self.sent
        for table in ("cached", "windowed"):
            assert await self.counts(table) == [self.sent // len(KEYS)] * len(KEYS)

    async def counts(self, table: str) -> list[int]:
        rows = await fetch(self.database_url, f"SELECT value::int FROM test.{table}")
        return [count for (count,) in rows]


@pytest.fixture
async def place(any_broker_url: str, database_url: str) -> AsyncIterator[Place]:
    database = await Database.connect(database_url)
    await migrate(database)
    yield Place(any_broker_url, database_url, database)
    await database.close()


@pytest.mark.parametrize("partitions", [6, 8])
async def test_every_key_goes_on_where_its_rows_are(place: Place, partitions: int) -> None:
    await place.work()
    altered = await place.alter(partitions)
    assert altered.topics == {"numbers": 4, "copies": 4}
    moved = sum(partition_of(k.encode(), 4) != partition_of(k.encode(), partitions) for k in KEYS)
    assert altered.rows == dict.fromkeys(("noted", "cached", "copied", "windowed"), moved)
    assert await place.alter(partitions) == Altered({}, {})
    await place.work(workers=2)
    await place.everything_is_right(partitions)
    await place.alter(partitions + 1)
    await place.work()
    await place.everything_is_right(partitions + 1)


@IN_MEMORY
async def test_a_topic_that_has_fewer_comes_up_to_the_others(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = place.broker()
    await broker.create_topic(TopicSpec("numbers", 8))
    await broker.create_topic(TopicSpec("copies", 2))
    await broker.close()
    await place.work()
    await killed_at(place, "alteration.committed", monkeypatch)
    altered = await place.alter(8)
    assert (altered.topics, altered.rows) == ({"copies": 2}, {})
    await place.work()
    await place.everything_is_right(8)


# -- refusals --------------------------------------------------------------------------------


@IN_MEMORY
async def test_never_fewer(place: Place) -> None:
    await place.work()
    assert "there are 4 partitions, and cannot be fewer" in await place.refuses(2)


@IN_MEMORY
async def test_nothing_was_ever_read(place: Place) -> None:
    with pytest.raises(AlterationRefused, match="test reads no topics yet"):
        await place.alter(8)


@AND_IN_VALKEY
async def test_a_worker_runs(place: Place) -> None:
    await place.work()
    broker = place.broker()
    await broker.heartbeat("test", "worker-1", Heartbeat(1))
    assert "1 workers run, worker-1 among them" in await place.refuses()
    group_state = await broker.group_state("test")
    assert await broker.reassign(
        "test", group_state.assignment, version=group_state.version, silent={"worker-1": 1}
    )
    assert (await place.alter(8)).topics


@IN_MEMORY
async def test_a_relay_is_at_work(place: Place) -> None:
    await place.work()
    async with relaying(place):
        assert "a relay is at work" in await place.refuses()
    assert (await place.alter(8)).topics


@AND_IN_VALKEY
async def test_events_are_not_processed(place: Place) -> None:
    await place.work()
    await place.append(Outgoing("numbers", b"1", b"key-1"))
    refusal = await place.refuses()
    number = partition_of(b"key-1", 4)
    assert f"1 partitions have events that are not processed, numbers {number} among" in refusal


@AND_IN_VALKEY
async def test_an_agent_with_shared_delivery_has_an_event_in_hand(place: Place) -> None:
    await place.work()
    broker = place.broker()
    await broker.open()
    share_group = broker.share_group("test/mailer", "worker-1")
    await share_group.join(["numbers"], from_start=True)
    claims = await share_group.claim(10 * place.sent, wait=0)
    first, *others = claims
    for claim in others:
        await share_group.ack({claim.tp: [claim.record.offset]})
    refusal = await place.refuses()
    assert f"not processed, {first.tp.topic} {first.tp.partition} among" in refusal
    await share_group.ack({first.tp: [first.record.offset]})
    assert (await place.alter(8)).topics
    await share_group.close()
    await broker.close()


@IN_MEMORY
async def test_the_database_is_behind_the_group(place: Place) -> None:
    await place.work()
    await place.database.pool.execute(
        "UPDATE redfaust.positions SET position = position - 1 WHERE (topic, partition) IN "
        "(SELECT topic, partition FROM redfaust.positions WHERE topic = 'copies' LIMIT 1)"
    )
    assert "events that are not processed, copies" in await place.refuses()


@IN_MEMORY
async def test_an_event_is_parked(place: Place) -> None:
    shop = place.shop(delay=600.0)
    async with running(shop.app):
        await shop.numbers.send(key="key-1", value=POISON)

        async def is_parked() -> bool:
            return bool(await place.database.pool.fetchval("SELECT count(*) FROM redfaust.parked"))

        await eventually(is_parked)
    assert "1 events wait for another attempt" in await place.refuses()


@IN_MEMORY
async def test_what_was_sent_is_not_published(place: Place) -> None:
    await place.work()
    await place.database.pool.execute(
        "UPDATE redfaust.batches SET published_at = NULL, committed_at = now()"
    )
    assert "batches of events are not published" in await place.refuses()


@AND_IN_VALKEY
async def test_somebody_else_reads_a_topic(place: Place) -> None:
    await place.work()
    broker = place.broker()
    await broker.join("billing", ["copies"], from_start=True)
    await broker.close()
    assert "topic copies is read by billing too" in await place.refuses()


@IN_MEMORY
async def test_a_row_lies_where_its_key_does_not_belong(place: Place) -> None:
    await place.work()
    key = next(key for key in KEYS if partition_of(key.encode(), 8) == 7)
    await place.database.pool.execute("UPDATE test.copied SET partition = 2 WHERE key = $1", key)
    refusal = await place.refuses()
    assert f"table copied: the row of '{key}' lies in partition 2" in refusal


@IN_MEMORY
async def test_a_table_is_not_in_postgres(place: Place) -> None:
    shop = place.shop()
    shop.app.Table("elsewhere", store="memory://tables")
    with pytest.raises(AlterationRefused, match="only tables in Postgres can follow"):
        await alter_partitions(shop.app, 8)


@IN_MEMORY
async def test_nothing_says_where_rows_belong(place: Place) -> None:
    await place.work()
    with pytest.raises(AlterationRefused, match="table own has use_partitioner"):
        await alter_partitions(place.shop().app, 8)
    with pytest.raises(AlterationRefused, match="there is no table owned"):
        await alter_partitions(place.shop().app, 8, left_alone=["owned"])


# -- interruptions ---------------------------------------------------------------------------


class Killed(BaseException):
    """What nothing cleans up after."""


async def killed_at(place: Place, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(failpoints, "point", failpoints.at(point, die))
        with pytest.raises(Killed):
            await place.alter(8)


@pytest.mark.parametrize("point", ["alteration.closed", "alteration.committed"])
@AND_IN_VALKEY
async def test_what_was_interrupted_is_done_again(
    place: Place, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.work()
    await killed_at(place, point, monkeypatch)
    with pytest.raises(TopicClosed, match="numbers is closed while it gets more partitions"):
        await place.append(Outgoing("numbers", b"1", b"key-1"))
    assert (await place.alter(8)).topics == {"numbers": 4, "copies": 4}
    await place.work()
    await place.everything_is_right(8)


@IN_MEMORY
async def test_what_was_half_done_is_not_done_otherwise(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.work()
    await killed_at(place, "alteration.committed", monkeypatch)
    for partitions in (4, 16):
        with pytest.raises(AlterationRefused, match="to 8 partitions was interrupted"):
            await place.alter(partitions)


@AND_IN_VALKEY
async def test_topics_can_be_opened_as_they_were(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.work()
    await killed_at(place, "alteration.closed", monkeypatch)
    assert await place.alter(4) == Altered({}, {})
    await place.work()
    await place.everything_is_right(4)


@AND_IN_VALKEY
async def test_a_worker_that_knows_fewer_partitions_does_not_begin(place: Place) -> None:
    await place.work()
    await place.alter(8)
    broker = place.broker()
    await broker.open_topics({"numbers": 4})  # as if Redis had lost it in a failover
    await broker.close()
    shop = place.shop()
    async with running(shop.app):
        await eventually(lambda: shop.app.consumer.crashed)
    reason = cast(Consumer, shop.app.consumer).crash_reason
    assert isinstance(reason, PartitionsDiffer)
    assert "numbers has 8 partitions, and not 4" in str(reason)
    assert (await place.alter(8)).topics == {"numbers": 4}
    await place.work()
    await place.everything_is_right(8)


@IN_MEMORY
async def test_who_had_partitions_before_cannot_commit(place: Place) -> None:
    await place.work()
    rows = "SELECT topic, partition, epoch FROM redfaust.positions WHERE partition < 4"
    before = {(t, n): epoch for t, n, epoch in await fetch(place.database_url, rows)}
    await place.alter(8)
    after = {(t, n): epoch for t, n, epoch in await fetch(place.database_url, rows)}
    raised = {of for of in before if after[of] > before[of]}
    assert raised == {(topic, n) for topic in ("numbers", "copies") for n in range(4)}


# -- what comes later ------------------------------------------------------------------------


@asynccontextmanager
async def relaying(place: Place) -> AsyncIterator[None]:
    broker, stop = place.broker(), asyncio.Event()
    await broker.open()
    relay = Relay(place.database, broker, dead_letter=nothing_is_refused)
    task = asyncio.create_task(relay.run(stop))
    try:
        await is_active(relay)
        yield
    finally:
        stop.set()
        await asyncio.wait_for(task, PATIENCE)
        await broker.close()


@AND_IN_VALKEY
async def test_what_waits_in_the_outbox_and_dead_letters_follow(place: Place) -> None:
    await place.work()
    shop = place.shop()
    key = next(key for key in KEYS if partition_of(key.encode(), 8) == 7)
    async with running(shop.app):
        await shop.numbers.send(key=key, value=POISON)
        await eventually(lambda: has_dead_letter(place))
        await eventually(lambda: all_finished(shop.app))
    async with Outbox(place.database).transaction() as tx:
        await tx.publish("numbers", b"1", key=key)
    await place.alter(8)
    letters = DeadLetters(place.database)
    await letters.replay(await letters.waiting())
    async with relaying(place):
        await drained(place.database)
    broker = place.broker()
    bounds = await broker.bounds([TP("numbers", number) for number in range(4, 8)])
    logs = await broker.read({tp: first for tp, (first, _) in bounds.items()}, limit=9, wait=0)
    await broker.close()
    assert {tp: [r.value for r in log] for tp, log in logs.items()} == {
        TP("numbers", 7): [b"1", b"%d" % POISON]
    }


async def has_dead_letter(place: Place) -> bool:
    return bool(await DeadLetters(place.database).waiting())


@IN_MEMORY
async def test_what_the_broker_loses_later_is_put_back_where_it_was(place: Place) -> None:
    await place.work()
    await place.alter(8)
    log = _logs[place.broker_url]
    tp, records = next((tp, r) for tp, r in log.records.items() if tp.topic == "copies" and len(r))
    before = sources(log)
    [(producer_id, _), *_] = before[tp]
    del log.last_sequences[producer_id, tp]
    records.remove(len(records))
    batch_publisher = BatchPublisher(place.database, place.broker(), dead_letter=nothing_is_refused)
    assert list(await batch_publisher.restore([producer_id])) == [producer_id]
    assert sources(log) == before


def sources(log: Log) -> dict[TP, list[Any]]:
    return {
        tp: [record.source for record in records.read(0, len(records))]
        for tp, records in log.records.items()
        if len(records)
    }
