"""Tables that keep only some of their rows in memory give the same results as others."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from typing import Any, cast

import asyncpg
import faust
import pytest
from faust.types import TP
from pydantic import BaseModel

from redfaust.brokers.partitioner import partition_of
from redfaust.errors import CacheFull
from redfaust.postgres.database import Database
from redfaust.postgres.identifiers import index_name
from redfaust.processing.committer import Committer
from redfaust.processing.retries import NO_RETRIES, Retries
from redfaust.tables.cached_store import CachedStore
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.integration.test_faust_app import fetch
from tests.rights import as_owner


class Account(BaseModel):
    owner: str
    balance: int = 0


def store_of(table: Any) -> CachedStore:
    return cast(CachedStore, getattr(table, "table", table).data)


def within_bounds(table: Any) -> bool:
    """Whether no more rows are in memory than should be."""
    store = store_of(table)
    return len(store._rows) <= len(store.cache) <= store.cache.size


async def errors(database_url: str) -> list[tuple[str, str]]:
    """Type and message of all dead letters, in their order."""
    rows = await fetch(
        database_url, "SELECT error_type, error FROM redfaust.dead_letters ORDER BY id"
    )
    return [(error_type.rpartition(".")[2], error) for error_type, error in rows]


async def send_all(topic: Any, *events: tuple[Any, Any], **more: Any) -> None:
    """Return when all events, of a key and a value each, are on their streams."""
    sent = [await topic.send(key=key, value=value, **more) for key, value in events]
    await asyncio.gather(*sent)


async def work_through(
    broker: str, database: str, name: str, commands: list[tuple[str, str]], cached_rows: int | None
) -> dict[str, list[Any]]:
    """What an agent sees of the rows before each of its changes, by key."""
    app = new_app(broker, database, name=name)
    app.conf.broker_commit_interval = 0.01
    topic = app.topic(f"{name}-commands", key_type=str)
    options = {"cached_rows": cached_rows} if cached_rows else {}
    table = app.Table("accounts", key_type=str, value_type=Account, options=options)
    seen: dict[str, list[Any]] = defaultdict(list)

    @app.agent(topic, concurrency=3, retries=NO_RETRIES)
    async def work(stream: Any) -> None:
        async for key, command in stream.items():
            before = table[key].balance if key in table else None
            seen[key].append(before)
            assert not cached_rows or within_bounds(table)
            if command == "close":
                del table[key]  # raises if there is none
            else:
                table[key] = Account(owner=key, balance=(before or 0) + len(command))
            if command == "fail":
                raise ValueError("after it was written")
            await asyncio.sleep(0)

    async with running(app):
        await send_all(topic, *commands)
        await eventually(lambda: all_finished(app, topic.get_topic_name()))
    return seen


async def test_the_results_are_those_of_a_table_that_is_wholly_in_memory(
    any_broker_url: str, database_url: str
) -> None:
    chance = random.Random(7)
    commands = [
        (f"key-{chance.randrange(60)}", chance.choice(["add", "add", "add", "close", "fail"]))
        for _ in range(1000)
    ]
    whole = await work_through(any_broker_url, database_url, "whole", commands, None)
    cached = await work_through(any_broker_url, database_url, "cached", commands, 10)
    assert cached == whole
    assert sum(map(len, cached.values())) == 1000
    rows = "SELECT key, owner, balance FROM {}.accounts ORDER BY key"
    assert await fetch(database_url, rows.format("cached")) == await fetch(
        database_url, rows.format("whole")
    )
    letters = "SELECT count(*), min(error) FROM redfaust.dead_letters WHERE app = '{}'"
    assert await fetch(database_url, letters.format("cached")) == await fetch(
        database_url, letters.format("whole")
    )


async def test_a_row_of_another_key_has_to_be_loaded(database_url: str) -> None:
    app = new_app("memory://another", database_url)
    transfers = app.topic("transfers", key_type=str, partitions=1)
    table: Any = app.Table("balances", key_type=str, default=int, options={"cached_rows": 4})

    @app.agent(transfers, retries=NO_RETRIES)
    async def transfer(stream: Any) -> None:
        async for key, (other, amount, loads) in stream.items():
            if loads:
                await table.load(other, key)
            table[key] -= amount
            table[other] += amount
            assert within_bounds(table)

    async with running(app):
        events = [(f"a-{number}", [f"b-{number}", 5, number != 7]) for number in range(20)]
        await send_all(transfers, *events, ("a-3", ["b-4", 1, True]))
        await eventually(lambda: all_finished(app, "transfers"))
    [(error, message)] = await errors(database_url)
    assert error == "RowNotLoaded"
    assert "await table.load" in message
    rows = dict(await fetch(database_url, "SELECT key, value::int FROM test.balances"))
    assert rows == {
        **{f"a-{number}": -5 for number in range(20) if number != 7},
        **{f"b-{number}": 5 for number in range(20) if number != 7},
        "a-3": -6,
        "b-4": 6,
    }


async def test_the_row_of_an_event_that_is_tried_again_is_loaded_again(database_url: str) -> None:
    app = new_app("memory://again", database_url)
    numbers = app.topic("numbers", key_type=str, partitions=1)
    table = app.Table("seen", key_type=str, default=int, options={"cached_rows": 4})
    failed: list[str] = []

    @app.agent(numbers, retries=Retries(delay=0.05))
    async def count(stream: Any) -> None:
        async for key, number in stream.items():
            table[key] += number
            if key == "key-0" and not failed:
                failed.append(key)
                raise ValueError("at first")

    async with running(app):
        await send_all(numbers, *((f"key-{n % 20}", 1) for n in range(60)))
        await eventually(lambda: all_finished(app, "numbers"))
    assert failed == ["key-0"]
    assert await errors(database_url) == []
    assert await fetch(
        database_url, "SELECT count(*), min(value::int), max(value::int) FROM test.seen"
    ) == [(20, 3, 3)]


async def test_a_batch_uses_the_rows_of_all_its_events(database_url: str) -> None:
    app = new_app("memory://batch", database_url)
    numbers = app.topic("numbers", key_type=str, partitions=1)
    table: Any = app.Table("seen", key_type=str, default=int, options={"cached_rows": 60})

    @app.agent(numbers)
    async def count(stream: Any) -> None:
        async for batch in stream.take(10, within=0.2):
            await table.load("total")
            for number in batch:
                table[f"key-{number}"] += number
                table["total"] += number
            assert within_bounds(table)

    async with running(app):
        await send_all(numbers, *((f"key-{number}", number) for number in range(100)))
        await eventually(lambda: all_finished(app, "numbers"))
    assert await errors(database_url) == []
    rows = dict(await fetch(database_url, "SELECT key, value::int FROM test.seen"))
    assert rows == {f"key-{number}": number for number in range(100)} | {"total": 4950}


async def test_who_asks_for_all_rows_is_sent_to_sql(database_url: str) -> None:
    app = new_app("memory://all", database_url)
    words = app.topic("words", key_type=str)
    counts = app.Table("counts", key_type=str, default=int, options={"cached_rows": 100})
    ways = [len, list, dict, lambda t: t.keys(), lambda t: t.items(), lambda t: t.values()]

    @app.agent(words, retries=NO_RETRIES)
    async def count(stream: Any) -> None:
        async for word, number in stream.items():
            counts[word] += 1
            ways[number](counts)

    async with running(app):
        await send_all(words, *(("word", number) for number in range(len(ways))))
        await eventually(lambda: all_finished(app, "words"))
    told = await errors(database_url)
    assert [error for error, _ in told] == ["TableNotWhole"] * len(ways)
    assert all("SQL" in message for _, message in told)


@pytest.mark.parametrize("relative_to", ["stream", "field"])
async def test_the_windows_of_an_event_are_loaded(database_url: str, relative_to: str) -> None:
    for round_ in (1, 2):
        app = new_app("memory://windows", database_url)
        events = app.topic("events", key_type=str, value_type=Happened)
        table = app.Table("visits", key_type=str, default=int, options={"cached_rows": 20})
        visits: Any = table.hopping(30.0, 10.0)
        if relative_to == "field":
            visits = visits.relative_to_field(Happened.at)

        @app.agent(events)
        async def count(stream: Any) -> None:
            async for event in stream.events():
                key = event.key
                visits[key] += 1  # noqa: B023 - within its round
                assert visits[key].value() > 0  # noqa: B023
                assert within_bounds(visits)  # noqa: B023

        async with running(app):
            for number in range(60):
                event = (f"key-{number % 7}", Happened(at=1e6 + number))
                await send_all(events, event, timestamp=2e6 + number)
            await eventually(lambda: all_finished(app, "events"))  # noqa: B023
        assert await errors(database_url) == []
        [(total, first)] = await fetch(
            database_url,
            "SELECT sum(value::int), min((key #>> '{1,0}')::float) FROM test.visits",
        )
        # Each event lies in three windows.
        assert total == 60 * 3 * round_
        assert first == (1e6 if relative_to == "field" else 2e6) - 20


class Happened(faust.Record):
    at: float


async def test_windows_that_expire_are_refused(database_url: str) -> None:
    app = new_app("memory://expire", database_url)
    app.Table("visits", options={"cached_rows": 20}).tumbling(10.0, expires=60.0)
    with pytest.raises(faust.exceptions.ImproperlyConfigured, match="expires"):
        await app.start()
    await app.stop()


@pytest.mark.parametrize("size", [0, "many", "5", None, True, 2.5])
def test_a_number_of_rows_that_is_none_is_refused(size: Any) -> None:
    app = new_app("memory://none", "postgresql://nowhere.invalid/none")
    with pytest.raises(faust.exceptions.ImproperlyConfigured, match="cached_rows"):
        app.Table("visits", options={"cached_rows": size})


async def test_events_wait_for_places_and_other_partitions_do_not(database_url: str) -> None:
    app = new_app("memory://wait", database_url)
    numbers = app.topic("numbers", key_type=str, partitions=1)
    others = app.topic("others", key_type=str, partitions=1)
    table = app.Table("seen", key_type=str, default=int, options={"cached_rows": 12})
    goes_on, held = asyncio.Event(), asyncio.Event()
    seen: list[str] = []

    @app.agent(numbers)
    async def count(stream: Any) -> None:
        async for key, number in stream.items():
            if number == 0:
                held.set()
                await goes_on.wait()
            table[key] += 1
            seen.append(key)
            assert within_bounds(table)

    @app.agent(others)
    async def count_others(stream: Any) -> None:
        async for key in stream:
            table[key] += 1
            seen.append(key)
            assert within_bounds(table)

    async with running(app):
        await send_all(numbers, *((f"key-{number}", number) for number in range(50)))
        await asyncio.wait_for(held.wait(), PATIENCE)
        # It has its share of the half that is for events which wait.
        assert 0 < len(store_of(table).cache) <= 3
        await send_all(others, *((f"other-{number}", f"other-{number}") for number in range(50)))
        await eventually(lambda: len(seen) == 50)
        assert all(key.startswith("other") for key in seen)
        goes_on.set()
        await eventually(lambda: all_finished(app, "numbers"))
    assert seen[50:] == [f"key-{number}" for number in range(50)]
    assert await fetch(database_url, "SELECT count(*), sum(value::int) FROM test.seen") == [
        (100, 100)
    ]


async def test_rows_are_loaded_only_for_the_topics_that_are_named(database_url: str) -> None:
    app = new_app("memory://named", database_url)
    used, unused = app.topic("used", key_type=str), app.topic("unused", key_type=str)
    options = {"cached_rows": 100, "prefetch_for": ["used"]}
    table = app.Table("seen", key_type=str, default=int, options=options)

    @app.agent(used)
    async def count(stream: Any) -> None:
        async for key in stream:
            table[key] += 1

    @app.agent(unused, retries=NO_RETRIES)
    async def read(stream: Any) -> None:
        async for key in stream:
            table[key] += 1

    async with running(app):
        await send_all(used, ("a", "a"), ("b", "b"))
        await send_all(unused, ("c", "c"))
        await eventually(lambda: all_finished(app, "used"))
        await eventually(lambda: all_finished(app, "unused"))
        assert len(store_of(table).cache) == 2
    assert [error for error, _ in await errors(database_url)] == ["RowNotLoaded"]


async def test_several_agents_share_the_rows_of_an_event(database_url: str) -> None:
    app = new_app("memory://several", database_url)
    numbers = app.topic("numbers", key_type=str, partitions=1)
    options = {"cached_rows": 8}
    tables = [app.Table(n, key_type=str, default=int, options=options) for n in ("one", "two")]

    def declare(name: str, table: Any, concurrency: int) -> None:
        @app.agent(numbers, name=name, concurrency=concurrency)
        async def count(stream: Any) -> None:
            async for key in stream:
                table[key] += 1
                assert within_bounds(table)

    declare("first", tables[0], 1)
    declare("second", tables[1], 3)
    async with running(app):
        # Many more keys than places in one batch, which no agent finishes alone.
        await send_all(numbers, *((f"key-{n % 40}", f"key-{n % 40}") for n in range(120)))
        await eventually(lambda: all_finished(app, "numbers"))
    for name in ("one", "two"):
        rows = await fetch(
            database_url, f"SELECT count(*), min(value::int), max(value::int) FROM test.{name}"
        )
        assert rows == [(40, 3, 3)]


async def test_a_slow_event_holds_up_no_other_key(database_url: str) -> None:
    app = new_app("memory://slow", database_url)
    numbers = app.topic("numbers", key_type=str, partitions=1)
    table = app.Table("seen", key_type=str, default=int, options={"cached_rows": 8})
    goes_on = asyncio.Event()
    seen: list[int] = []

    @app.agent(numbers, concurrency=2)
    async def count(stream: Any) -> None:
        async for key, number in stream.items():
            if number == 0:
                await goes_on.wait()
            table[key] += 1
            seen.append(number)

    async with running(app):
        await send_all(numbers, *((f"key-{number}", number) for number in range(100)))
        await eventually(lambda: sorted(seen) == list(range(1, 100)))
        goes_on.set()
        await eventually(lambda: all_finished(app, "numbers"))
    assert seen[-1] == 0
    assert await fetch(database_url, "SELECT count(*) FROM test.seen") == [(100,)]


async def test_an_event_that_needs_more_rows_than_there_are_places_fails(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.tables.prefetch.ROOM_FOR", 0.1)
    app = new_app("memory://many", database_url)
    numbers = app.topic("numbers", key_type=str, partitions=1)
    table: Any = app.Table("seen", key_type=str, default=int, options={"cached_rows": 10})

    @app.agent(numbers, retries=NO_RETRIES)
    async def count(stream: Any) -> None:
        async for key, more in stream.items():
            await table.load(*(f"{key}-{number}" for number in range(more)))
            for number in range(more):
                table[f"{key}-{number}"] += 1

    async with running(app):
        await send_all(numbers, ("a", 5), ("b", 11), ("c", 5), ("a", 3))
        await eventually(lambda: all_finished(app, "numbers"))
    [(error, message)] = await errors(database_url)
    assert error == CacheFull.__name__
    assert "cached_rows" in message
    assert await fetch(database_url, "SELECT sum(value::int), count(*) FROM test.seen") == [
        (13, 10)
    ]


async def test_rows_that_cannot_be_loaded_now_are_waited_for(database_url: str) -> None:
    app = new_app("memory://away", database_url)
    numbers = app.topic("numbers", key_type=str)
    table = app.Table("seen", key_type=str, default=int, options={"cached_rows": 100})

    @app.agent(numbers)
    async def count(stream: Any) -> None:
        async for key in stream:
            table[key] += 1

    async with running(app):
        own = partition_of(b"key", 4)
        await fetch(as_owner(database_url), "ALTER TABLE test.seen RENAME TO away")
        await send_all(numbers, ("key", "key"))
        await eventually(lambda: bool(store_of(table).cache.state("key")))
        await fetch(database_url, f"INSERT INTO test.away VALUES ('key', '41', {own})")
        await fetch(as_owner(database_url), "ALTER TABLE test.away RENAME TO seen")
        await eventually(lambda: all_finished(app, "numbers"))
    assert await errors(database_url) == []
    assert await fetch(database_url, "SELECT value::int FROM test.seen") == [(42,)]


@pytest.mark.parametrize(
    ("key_type", "keys"),
    [
        (str, ["a", "", "ü", "a\0b", "\ud800"]),
        (int, [1, 0, -(2**63), 2**63, "five", 1.5]),
        (bytes, [b"a", b"\0\xff", "text"]),
        (None, [["a", 1], "a", 1, {"b": 2}]),
    ],
    ids=["text", "integers", "bytes", "JSON"],
)
async def test_keys_of_any_kind_are_found_again(
    database_url: str, key_type: Any, keys: list[Any]
) -> None:
    results = []
    for name, options in (("whole", {}), ("cached", {"cached_rows": 2})):
        app = new_app(f"memory://{name}", database_url, name=name)
        numbers = app.topic("numbers", key_type=str, partitions=1)
        table: Any = app.Table(
            "seen", key_type=key_type, default=int, options=options, use_partitioner=True
        )

        @app.agent(numbers, retries=NO_RETRIES)
        async def count(stream: Any) -> None:
            async for number in stream:
                key = tuple(keys[number]) if isinstance(keys[number], list) else keys[number]
                await table.load(key)  # noqa: B023 - within its round
                table[key] += 1  # noqa: B023

        async with running(app):
            await send_all(numbers, *[("key", number) for number in range(len(keys))] * 3)
            await eventually(lambda: all_finished(app, "numbers"))  # noqa: B023
        results.append(
            (
                await fetch(database_url, f"SELECT key, value::int FROM {name}.seen ORDER BY key"),
                await fetch(
                    database_url,
                    f"SELECT value FROM redfaust.dead_letters WHERE app = '{name}' ORDER BY id",
                ),
            )
        )
    whole, cached = results
    assert cached == whole
    assert all(value == 3 for _, value in cached[0])


async def test_a_row_that_postgres_refuses_stays_as_it_was(database_url: str) -> None:
    app = new_app("memory://refused", database_url)
    accounts = app.topic("accounts", key_type=str)
    table = app.Table("accounts", key_type=str, value_type=Account, options={"cached_rows": 100})

    @app.agent(accounts)
    async def put(stream: Any) -> None:
        async for key, balance in stream.items():
            before = table[key].balance if key in table else 0
            table[key] = Account.model_construct(owner=key, balance=balance or before)

    async with running(app):
        await fetch(as_owner(database_url), "ALTER TABLE test.accounts ADD CHECK (balance < 1000)")
        for events in ([("a", 1)], [("a", 5000), ("b", 2)], [("a", 0)]):
            await send_all(accounts, *events)
            await eventually(lambda: all_finished(app, "accounts"))
    assert len(await errors(database_url)) == 1
    rows = await fetch(database_url, "SELECT key, balance FROM test.accounts ORDER BY key")
    assert rows == [("a", 1), ("b", 2)]


async def test_rows_of_partitions_that_were_lost_are_read_anew(
    any_broker_url: str, database_url: str
) -> None:
    def counting() -> tuple[faust.App, Any, Any]:
        app = new_app(any_broker_url, database_url)
        words = app.topic("words", key_type=str)
        table = app.Table("counts", key_type=str, default=int, options={"cached_rows": 50})

        @app.agent(words)
        async def count(stream: Any) -> None:
            async for key in stream:
                table[key] += 1

        return app, words, table

    first, words, _ = counting()
    second, same_words, heirs = counting()
    events = [(f"key-{number % 20}", f"key-{number % 20}") for number in range(100)]
    async with running(first):
        await send_all(words, *events)
        await eventually(lambda: all_finished(first, "words"))
        await asyncio.wait_for(second.start(), PATIENCE)
    try:
        await eventually(lambda: TP("words", 0) in second.consumer.assignment())
        await send_all(same_words, *events)
        await eventually(lambda: all_finished(second, "words"))
        assert len(store_of(heirs).cache) == 20
    finally:
        await asyncio.wait_for(second.stop(), PATIENCE)
    rows = await fetch(database_url, "SELECT count(*), min(value::int) FROM test.counts")
    assert rows == [(20, 10)]


async def test_rows_are_read_anew_after_partitions_have_moved(database_url: str) -> None:
    app = new_app("memory://moved", database_url)
    words = app.topic("words", key_type=str)
    table = app.Table("counts", key_type=str, default=int, options={"cached_rows": 50})

    @app.agent(words)
    async def count(stream: Any) -> None:
        async for key in stream:
            table[key] += 1

    async with running(app):
        await send_all(words, ("changed", "changed"), ("gone", "gone"), ("kept", "kept"))
        await eventually(lambda: all_finished(app, "words"))
        own = partition_of(b"new", 4)
        # As another worker would do, if it had the partitions for a while.
        await fetch(database_url, "UPDATE test.counts SET value = '41' WHERE key = 'changed'")
        await fetch(database_url, "DELETE FROM test.counts WHERE key = 'gone'")
        await fetch(database_url, f"INSERT INTO test.counts VALUES ('new', '6', {own})")
        cast(Consumer, app.consumer).rebalance.undo()
        await send_all(words, *((key, key) for key in ("changed", "gone", "kept", "new")))
        await eventually(lambda: all_finished(app, "words"))
    rows = await fetch(database_url, "SELECT key, value::int FROM test.counts ORDER BY key")
    assert rows == [("changed", 42), ("gone", 1), ("kept", 2), ("new", 7)]


async def test_a_row_stays_until_it_is_committed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, chance = Committer.commit, random.Random(5)

    async def commit_slowly(committer: Committer, *args: Any) -> None:
        await asyncio.sleep(0.03)  # in which other events look for places
        await commit(committer, *args)

    monkeypatch.setattr(Committer, "commit", commit_slowly)
    app = new_app("memory://slowly", database_url)
    app.conf.broker_commit_interval = 0.03
    words = app.topic("words", key_type=str, partitions=1)
    table = app.Table("counts", key_type=str, default=int, options={"cached_rows": 4})

    @app.agent(words)
    async def count(stream: Any) -> None:
        async for key in stream:
            table[key] += 1
            assert within_bounds(table)

    keys = [chance.choice("abcdefgh") for _ in range(150)]
    async with running(app):
        await send_all(words, *zip(keys, keys, strict=True))
        await eventually(lambda: all_finished(app, "words"))
    rows = await fetch(database_url, "SELECT key, value::int FROM test.counts")
    assert Counter(dict(rows)) == Counter(keys)


async def test_what_is_known_of_a_partitions_rows_is_read_anew_when_it_comes(
    migrated_url: str,
) -> None:
    """Another worker has had it since; also of what is in use, and of rows that there were not."""
    app = new_app("memory://gained", migrated_url, name="gained")
    store = store_of(app.Table("rows", key_type=str, options={"cached_rows": 10}))
    database = await Database.connect(as_owner(migrated_url))
    async with database.transaction() as connection:
        await store.create(connection)
        await store.write(connection, {"used": (0, None, "1"), "idle": (0, None, "1")})
    for key in ("used", "idle", "new"):
        store.cache.pin(key, "holder", 10)
    await store.load(database, ["used", "idle", "new"])
    store.cache.unpin("idle", "holder")
    async with database.transaction() as connection:
        await store.write(connection, {"used": (0, None, "2"), "new": (0, None, "3")})
    await store.load_partitions(database, [0])
    await database.close()
    assert [store.get(key) for key in ("used", "new")] == [2, 3]
    assert store.cache.state("idle") is None


async def test_rows_are_found_by_the_index(database_url: str) -> None:
    app = new_app("memory://plan", database_url)
    table = app.Table("cached", key_type=str, options={"cached_rows": 10})
    async with running(app):
        store = store_of(table)
        connection = await asyncpg.connect(database_url)
        try:
            await connection.execute(
                "INSERT INTO test.cached (key, value, partition)"
                " SELECT 'key-' || n, '1', 0 FROM generate_series(1, 100000) AS n"
            )
            await connection.execute("ANALYZE test.cached")
            await connection.execute(f"PREPARE rows AS {store._sql('select_rows_of_keys')}")
            keys = ",".join(f"key-{number}" for number in range(0, 100000, 200))
            plan = await connection.fetch(f"EXPLAIN EXECUTE rows ('{{{keys}}}')")
        finally:
            await connection.close()
    text = "\n".join(row[0] for row in plan)
    assert f"Index Scan using {index_name('cached', 'key')}" in text
    assert "Seq Scan" not in text
