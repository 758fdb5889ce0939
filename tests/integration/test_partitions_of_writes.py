"""A row is written in the partition of its key alone, whatever partitions events come through."""

from __future__ import annotations

import asyncio
import random
import sys
import zlib
from collections import Counter
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from redfaust.brokers.partitioner import partition_of
from redfaust.processing.retries import NO_RETRIES
from redfaust.tables.store import RowsElsewhere
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.rights import as_administrator

KEYS = [f"customer-{number}" for number in range(100)]
OWN = partition_of(b"ann", 2)


async def fetch(database_url: str, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def send_all(topic: Any, *events: tuple[str, int, int | None]) -> None:
    """Send keys and numbers, each to a partition of its own; return when they are there."""
    sent = [await topic.send(key=k, value=n, partition=p) for k, n, p in events]
    await asyncio.gather(*sent)


class Paying:
    """Adds payments up by customer."""

    def __init__(self, broker: str, store: str, *, partitions: int = 2, **options: Any) -> None:
        self.app = new_app(broker, store, partitions=partitions)
        self.payments = self.app.topic("payments", key_type=str, value_type=int)  # type: ignore[arg-type] # Faust takes it
        self.balances: Any = self.app.Table(
            "balances", key_type=str, value_type=int, default=int, **options
        )

        @self.app.agent(self.payments, retries=NO_RETRIES)
        async def pay(stream: Any) -> None:
            async for key, amount in stream.items():
                self.balances[key] += amount

    def owned(self) -> int:
        return sum(tp.topic == "payments" for tp in self.app.consumer.assignment())


async def test_what_three_producers_place_by_different_rules_is_counted_or_said_to_be_refused(
    empty_valkey_url: str, database_url: str
) -> None:
    partitions, draw = 64, random.Random(1)
    first, second = (
        Paying(empty_valkey_url, database_url, partitions=partitions) for _ in range(2)
    )
    async with running(first.app), running(second.app):
        await eventually(lambda: first.owned() == second.owned() == partitions // 2)
        sent: Counter[str] = Counter()
        async with Redis.from_url(as_administrator(empty_valkey_url)) as redis:
            for _ in range(4):
                pipe = redis.pipeline(transaction=False)
                for key in KEYS:
                    murmur2 = partition_of(key.encode(), partitions)
                    crc32 = zlib.crc32(key.encode()) % partitions
                    for partition in (murmur2, crc32, draw.randrange(partitions)):
                        amount = draw.randrange(1, 100)
                        sent[key] += amount
                        fields = {"_v": str(amount), "_k": key}
                        pipe.xadd(f"{{payments:{partition}}}", fields)  # type: ignore[arg-type]
                await pipe.execute()
        await eventually(lambda: all_finished(first.app, "payments"))
        await eventually(lambda: all_finished(second.app, "payments"))
    balances = await fetch(database_url, "SELECT key, value::int, partition FROM test.balances")
    letters = await fetch(
        database_url, "SELECT key, value, partition, error FROM redfaust.dead_letters"
    )
    counted = Counter({key: balance for key, balance, _ in balances})
    for key, amount, *_ in letters:
        counted[key.decode()] += int(amount)
    assert counted == sent
    assert all(at == partition_of(key.encode(), partitions) for key, _, at in balances)
    assert letters
    for key, _, partition, error in letters:
        own = partition_of(key, partitions)
        assert own != partition
        assert f"lies in partition {partition} of 'payments'" in error
        assert f"{key.decode()!r} belongs to {own}" in error
        assert "group_by" in error
        assert "use_partitioner=True" in error


@pytest.mark.parametrize("options", [{}, {"options": {"cached_rows": 50}}], ids=["whole", "cached"])
async def test_two_topics_that_place_a_key_differently_cannot_both_write_its_row(
    memory_url: str, database_url: str, options: dict[str, Any]
) -> None:
    """By their numbers of partitions: each is right, and the database has the last word."""
    apps = []
    for _ in range(2):
        app = new_app(memory_url, database_url)
        table: Any = app.Table("seen", key_type=str, value_type=int, default=int, **options)
        topics = [app.topic(f"of{n}", key_type=str, partitions=n) for n in (2, 8)]

        async def count(stream: Any, table: Any = table) -> None:
            async for key, number in stream.items():
                table[key] += number

        for topic in topics:
            app.agent(topic, name=topic.get_topic_name(), retries=NO_RETRIES)(count)
        apps.append((app, topics))
    (first, topics), (second, _) = apps
    async with running(first), running(second):
        await eventually(lambda: all(app.consumer.assignment() for app in (first, second)))
        await send_all(topics[0], *[(key, 1, None) for key in KEYS])
        for app in (first, second):
            await eventually(lambda app=app: all_finished(app, "of2"))  # type: ignore[misc]
        await send_all(topics[1], *[(key, 100, None) for key in KEYS])
        for app in (first, second):
            await eventually(lambda app=app: all_finished(app, "of8"))  # type: ignore[misc]
    rows = dict(await fetch(database_url, "SELECT key, value::int FROM test.seen"))
    letters = await fetch(database_url, "SELECT key, value, error FROM redfaust.dead_letters")
    same = {key for key in KEYS if partition_of(key.encode(), 2) == partition_of(key.encode(), 8)}
    assert rows == {key: 101 if key in same else 1 for key in KEYS}
    assert {key.decode() for key, *_ in letters} == set(KEYS) - same
    assert all("the row of" in error and "group_by" in error for *_, error in letters)


async def test_with_a_partitioner_of_the_producers_own_a_row_is_that_of_one_partition(
    memory_url: str, database_url: str
) -> None:
    first, second = (Paying(memory_url, database_url, use_partitioner=True) for _ in range(2))
    async with running(first.app), running(second.app):
        await eventually(lambda: first.owned() == second.owned() == 1)
        await send_all(first.payments, ("ann", 1, 1 - OWN))
        await eventually(lambda: all_finished(first.app, "payments"))
        await eventually(lambda: all_finished(second.app, "payments"))
        await send_all(first.payments, *[("ann", 1, p) for _ in range(20) for p in (0, 1)])
        await eventually(lambda: all_finished(first.app, "payments"))
        await eventually(lambda: all_finished(second.app, "payments"))
    query = "SELECT value::int, partition FROM test.balances"
    assert await fetch(database_url, query) == [(21, 1 - OWN)]
    letters = await fetch(database_url, "SELECT partition, error FROM redfaust.dead_letters")
    assert [partition for partition, _ in letters] == [OWN] * 20
    assert all(f"lies in partition {1 - OWN}" in error for _, error in letters)


async def test_a_row_that_lies_elsewhere_is_neither_written_nor_deleted(
    database_url: str,
) -> None:
    """Whatever a worker has in memory."""
    paying = Paying("memory://elsewhere", database_url)
    async with running(paying.app):
        await eventually(lambda: paying.owned() == 2)
        await send_all(paying.payments, ("ann", 5, None))
        await eventually(lambda: all_finished(paying.app, "payments"))
        store, database = paying.balances.data, paying.app.tables.state_backend.database  # type: ignore[attr-defined]
        rows = {"ann": (1 - OWN, 1, "1"), "new": (0, 2, "2")}
        says = (
            f"the row of 'ann' lies in partition {OWN}, and was written for an event of partition "
        )
        for wrong in (rows, {"ann": (1 - OWN, None, None)}):
            with pytest.raises(RowsElsewhere, match=says) as refused:
                async with database.transaction() as connection:
                    await store.write(connection, wrong)
            assert refused.value.rows.keys() == {"ann"}
        async with database.transaction() as connection:
            await store.write(connection, {"ann": (OWN, None, None)})
            await store.write(connection, rows)


async def test_a_table_with_a_changelog_takes_a_key_in_its_own_partition_alone() -> None:
    paying = Paying("memory://changelog", "memory://")
    failed: list[Exception] = []

    @paying.app.agent(paying.payments, name="other", on_give_up=None, retries=NO_RETRIES)
    async def note(stream: Any) -> None:
        async for event in stream.events():
            try:
                paying.balances[event.key] += 0
            except Exception as error:
                failed.append(error)
                raise

    async with running(paying.app):
        await send_all(paying.payments, *[("ann", 1, p) for p in (OWN, 1 - OWN, OWN)])
        await eventually(lambda: all_finished(paying.app, "payments"))
        assert paying.balances["ann"] == 2
    assert [f"belongs to {OWN}" in str(error) for error in failed] == [True]


async def test_each_key_of_a_batch_is_written_in_the_partition_of_its_own_event(
    memory_url: str, database_url: str
) -> None:
    """The keys being JSON, whose bytes are others than those of the text."""
    app = new_app(memory_url, database_url, partitions=16)
    topic = app.topic("numbers", key_type=str, key_serializer="json")
    table: Any = app.Table("seen", key_type=str, value_type=int, default=int)

    @app.agent(topic, retries=NO_RETRIES)
    async def count(stream: Any) -> None:
        async for events in stream.take_events(50, within=0.1):
            for event in events:
                table[event.key] += 1

    async with running(app):
        await send_all(topic, *[(key, 1, None) for key in KEYS * 2])
        await eventually(lambda: all_finished(app))
    rows = await fetch(database_url, "SELECT key, value::int, partition FROM test.seen")
    assert sorted(rows) == sorted((key, 2, partition_of(f'"{key}"'.encode(), 16)) for key in KEYS)


async def test_rows_of_all_partitions_can_be_deleted_and_that_is_fenced(
    memory_url: str, database_url: str
) -> None:
    paying = Paying(memory_url, database_url)
    cleared, go_on = asyncio.Event(), asyncio.Event()

    @paying.app.agent(paying.app.topic("ends", key_type=str), retries=NO_RETRIES)
    async def end(stream: Any) -> None:
        async for _ in stream:
            for key in list(paying.balances):
                del paying.balances[key]
            cleared.set()
            await go_on.wait()

    async with running(paying.app):
        await send_all(paying.payments, *[(key, 1, None) for key in KEYS])
        await eventually(lambda: all_finished(paying.app, "payments"))
        await paying.app.topic("ends").send(key="ann", value="now")
        await asyncio.wait_for(cleared.wait(), PATIENCE)
        raised = f"UPDATE redfaust.positions SET epoch = epoch + 1 WHERE partition = {1 - OWN}"
        await fetch(database_url, raised)
        cleared.clear()
        go_on.set()
        # It was refused, and comes again once the partitions are taken anew.
        await asyncio.wait_for(cleared.wait(), PATIENCE)
        await eventually(lambda: all_finished(paying.app, "ends"))
    assert await fetch(database_url, "SELECT key FROM test.balances") == []


@pytest.mark.parametrize("way", ["clear", "popitem"])
async def test_deleting_many_rows_takes_as_long_for_each_as_for_a_few(
    memory_url: str, database_url: str, way: str
) -> None:
    """By the calls of functions, which do not depend on the machine."""
    app = new_app(memory_url, database_url)
    topic, calls = app.topic("numbers", key_type=str), list[int]()
    table: Any = app.Table("rows", key_type=str, default=int)

    def delete() -> None:
        if way == "clear":
            table.clear()
        with suppress(KeyError):
            while True:
                table.data.popitem()

    @app.agent(topic, retries=NO_RETRIES)
    async def fill_and_delete(stream: Any) -> None:
        async for event in stream.events():
            size = event.value
            for number in range(size):
                key = f"{event.key}-{number}"
                if partition_of(key.encode(), 4) == event.message.partition:
                    table[key] = number
            looked_at = 0

            def count(frame: Any, kind: str, _: Any) -> None:
                nonlocal looked_at
                looked_at += kind in {"call", "c_call"}

            before = len(table)
            sys.setprofile(count)
            try:
                delete()
            finally:
                sys.setprofile(None)
            assert before
            assert not len(table)
            calls.append(looked_at // before)

    async with running(app):
        await send_all(topic, ("a", 100, None))
        await eventually(lambda: all_finished(app))
        await send_all(topic, ("a", 20_000, None))
        await eventually(lambda: all_finished(app))
    few, many = calls
    assert many < 1.5 * few
    assert await fetch(database_url, "SELECT key FROM test.rows") == []
