"""Rows that Postgres refuses: their events are set aside, and all others are committed."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import Awaitable
from typing import Any

import asyncpg
import pytest
from faust.types import TP
from pydantic import BaseModel

from redfaust.postgres.database import Database
from redfaust.processing.changes import LATER, Changes, Row
from redfaust.processing.refusals import find_refused, parts_of
from redfaust.processing.retries import NO_RETRIES, Retries
from redfaust.processing.unit_of_work import Batch
from redfaust.tables.store import PostgresStore
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.rights import as_owner

TOO_LONG = "".join(random.Random(1).choices(string.ascii_letters, k=20_000))
"""For an entry of an index, also when it is compressed."""


class Measured(BaseModel):
    number: int = 0
    weight: float = 0.0


REFUSED = {
    "NUL in the value": (str, "key", "a\0b"),
    "NUL in the key": (str, "a\0b", 1),
    "a lone surrogate in the value": (str, "key", "\ud800"),
    "a lone surrogate in the key": (str, "\ud800", 1),
    "too long a key for the index": (str, TOO_LONG, 1),
    "too large an integer for the key": (int, 2**70, 1),
    "a key of another type": (int, "five", 1),
    "a key that is another one's text": (str, 4, 1),
}


async def fetch(database_url: str, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


@pytest.mark.parametrize("what", REFUSED)
async def test_an_event_whose_row_is_refused_is_set_aside(database_url: str, what: str) -> None:
    key_type, key, value = REFUSED[what]
    app = new_app(f"memory://{what}", database_url)
    commands = app.topic("commands", key_type=str)
    table = app.Table("rows", key_type=key_type, use_partitioner=True)

    @app.agent(commands)
    async def write(stream: Any) -> None:
        async for command in stream:
            if command == "bad":
                table[key] = value
            else:
                table[key_type(command)] = command

    async with running(app):
        for command in ["1", "2", "bad", "3", "4"]:
            await commands.send(key="key", value=command)
        await eventually(lambda: app.crashed or len(table) >= 4)
        await eventually(lambda: all_finished(app, "commands"))
        assert key not in table
    assert await fetch(database_url, "SELECT value FROM redfaust.dead_letters") == [(b'"bad"',)]
    rows = await fetch(database_url, "SELECT key::text FROM test.rows ORDER BY 1")
    assert rows == [("1",), ("2",), ("3",), ("4",)]


async def test_a_key_of_another_type_is_refused_though_it_equals_one_that_is_there(
    database_url: str,
) -> None:
    app = new_app("memory://equal", database_url)
    numbers = app.topic("numbers", key_type=str)
    table = app.Table("rows", key_type=int, value_type=int, use_partitioner=True)

    @app.agent(numbers)
    async def write(stream: Any) -> None:
        async for number in stream:
            if number == 1.5:
                del table[1.0]
            else:
                table[number] = 1

    async with running(app):
        await numbers.send(key="key", value=1)
        await eventually(lambda: all_finished(app, "numbers"))
        for number in (1.0, 1.5, 2):
            await numbers.send(key="key", value=number)
        await eventually(lambda: app.crashed or 2 in table)
        await eventually(lambda: all_finished(app, "numbers"))
    assert await fetch(database_url, "SELECT key FROM test.rows ORDER BY key") == [(1,), (2,)]
    letters = await fetch(database_url, "SELECT value FROM redfaust.dead_letters ORDER BY id")
    assert letters == [(b"1.0",), (b"1.5",)]


async def test_looking_for_refused_rows_holds_no_more_locks_the_more_there_are(
    migrated_url: str,
) -> None:
    store = new_app("memory://locks", migrated_url, name="locks").Table("rows", key_type=str).data
    assert isinstance(store, PostgresStore)
    rows: dict[Any, Row] = {f"{number} {TOO_LONG}": (0, 1, LATER) for number in range(20)}
    database = await Database.connect(as_owner(migrated_url))
    async with database.transaction() as connection:
        await store.create(connection)
    changes = Changes()
    changes.rows = rows | {"good": (0, 1, LATER)}
    changes.writes = [(key, ("a", TP("t", 0), at)) for at, key in enumerate(changes.rows)]
    async with database.transaction() as connection:

        async def write(batch: Batch) -> None:
            for table, changed in batch.rows:
                await table.write(connection, changed.rows)

        parts = parts_of(Batch(rows=[(store, changes)]))
        refused = await find_refused(connection, parts, write)
        held = await connection.fetchval(
            "SELECT count(*) FROM pg_locks "
            "WHERE locktype = 'transactionid' AND pid = pg_backend_pid()"
        )
    await database.close()
    assert [list(part.causes) for part, _ in refused] == [
        [("a", TP("t", 0), at)] for at in range(len(rows))
    ]
    assert held <= 1  # that of the transaction itself


@pytest.mark.parametrize("options", [{}, {"cached_rows": 10}], ids=["whole", "cached"])
async def test_a_row_that_cannot_be_read_parks_the_events_of_its_key_until_it_is_corrected(
    memory_url: str, database_url: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def measuring() -> tuple[Any, Any]:
        app = new_app(memory_url, database_url)
        topic = app.topic("numbers", key_type=str)
        table = app.Table("rows", key_type=str, value_type=Measured, options=options)

        @app.agent(topic, retries=NO_RETRIES)
        async def measure(stream: Any) -> None:
            async for key, number in stream.items():
                row = table.get(key) or Measured()
                table[key] = row.model_copy(update={"number": row.number + number})

        return app, topic

    def numbers() -> Awaitable[list[tuple[Any, ...]]]:
        return fetch(database_url, "SELECT key, number::int FROM test.rows ORDER BY key")

    async def parked(count: int) -> bool:
        query = "SELECT count(*)::int, max(attempts) FROM redfaust.parked"
        return await fetch(database_url, query) == [(count, 0)]

    app, topic = measuring()
    async with running(app):
        await asyncio.gather(*[await topic.send(key=key, value=1) for key in "ab"])
        await eventually(lambda: all_finished(app))
    await fetch(database_url, """UPDATE test.rows SET value = '{"number": 5.25}' WHERE key = 'a'""")
    app, topic = measuring()
    async with running(app):
        await asyncio.gather(*[await topic.send(key=key, value=1) for key in "aabb"])
        await eventually(lambda: parked(2))
        await eventually(lambda: caplog.text.count("the next attempt is in") >= 2)
        assert await parked(2)
        [wrong] = app.tables.unreadable()["rows"]
        assert "that of 'a' (" in str(wrong)
        assert "number: " in str(wrong)
        assert "5.25" not in str(wrong)
        corrected = """UPDATE test.rows SET value = '{"number": 40}' WHERE key = 'a'"""
        await fetch(database_url, corrected)
        await eventually(lambda: all_finished(app))
        assert app.tables.unreadable() == {}
    assert await numbers() == [("a", 42), ("b", 3)]
    assert await fetch(database_url, "SELECT * FROM redfaust.dead_letters") == []


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
async def test_a_refused_row_stays_as_it_was_committed(database_url: str) -> None:
    app = new_app("memory://refused", database_url)
    weights = app.topic("weights", key_type=str)
    table = app.Table("weighed", key_type=str, value_type=Measured)

    @app.agent(weights)
    async def weigh(stream: Any) -> None:
        async for key, weight in stream.items():
            # Not validated before it is written.
            table[key] = Measured.model_construct(number=1, weight=weight)

    async with running(app):
        await weights.send(key="a", value=1.5)
        await eventually(lambda: all_finished(app, "weights"))
        await weights.send(key="a", value="heavy")
        await weights.send(key="b", value=2.5)
        await eventually(lambda: app.crashed or "b" in table)
        await eventually(lambda: all_finished(app, "weights"))
        assert table["a"].weight == 1.5
        await (await weights.send(key="a", value=3.5))
        await eventually(lambda: all_finished(app, "weights"))
    rows = await fetch(database_url, "SELECT key, weight FROM test.weighed ORDER BY key")
    assert rows == [("a", 3.5), ("b", 2.5)]
    assert await fetch(database_url, "SELECT value FROM redfaust.dead_letters") == [(b'"heavy"',)]


async def test_rows_that_are_too_large_for_one_statement_are_written_by_several(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.tables.store.BYTES_AT_A_TIME", 10)
    table = new_app("memory://large", migrated_url, name="large").Table("rows", key_type=str)
    store = table.data
    assert isinstance(store, PostgresStore)
    rows: dict[Any, Row] = {f"k{n}": (0, None, '"' + "x" * n + '"') for n in range(20)}
    upserts = []
    upsert = store._upsert

    async def count(*args: Any) -> Any:
        upserts.append(args)
        return await upsert(*args)

    monkeypatch.setattr(store, "_upsert", count)
    database = await Database.connect(as_owner(migrated_url))
    async with database.transaction() as connection:
        await store.create(connection)
        await store.write(connection, rows)
    await store.load_partitions(database, [0])
    await database.close()
    assert len(upserts) > 2
    assert {key: len(store[key]) for key in store} == {f"k{n}": n for n in range(20)}


async def test_text_that_looks_like_an_escaped_nul_is_stored(database_url: str) -> None:
    app = new_app("memory://escaped", database_url)
    texts = app.topic("texts", key_type=str)
    table = app.Table("texts", key_type=str)

    @app.agent(texts)
    async def store(stream: Any) -> None:
        async for key, text in stream.items():
            table[key] = text

    async with running(app):
        await texts.send(key="\\u0000", value="\\u0000")
        await eventually(lambda: all_finished(app, "texts"))
    rows = await fetch(database_url, "SELECT key, value #>> '{}' FROM test.texts")
    assert rows == [("\\u0000", "\\u0000")]


async def test_a_table_that_cannot_be_written_is_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.transports.reading.READ_LIMIT", 10)
    app = new_app("memory://dropped", database_url)
    app.conf.stream_buffer_maxsize = 10
    numbers, seen = app.topic("numbers", key_type=str), []
    table = app.Table("kept", key_type=str, default=int, value_type=int)

    @app.agent(numbers)
    async def count(stream: Any) -> None:
        async for key, number in stream.items():
            table[key] += 1
            seen.append(number)

    async with running(app):
        await fetch(as_owner(database_url), "ALTER TABLE test.kept RENAME TO away")
        for number in range(1000):
            await numbers.send(key="key", value=number)
            if number == 0:
                await eventually(lambda: app.crashed or app.consumer.reading.held_back)  # type: ignore[attr-defined]
        assert not app.crashed
        assert len(seen) < 1000  # nothing is read that could not be committed
        await fetch(as_owner(database_url), "ALTER TABLE test.away RENAME TO kept")
        await eventually(lambda: all_finished(app))
    assert await fetch(database_url, "SELECT value::int FROM test.kept") == [(1000,)]


async def test_an_event_that_was_refused_is_set_aside_once(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if its position has not been passed when another one is refused."""
    monkeypatch.setattr("redfaust.transports.commits.DRAIN_FOR", 0.1)
    app = new_app("memory://again", database_url, partitions=1)
    texts, gate = app.topic("texts", key_type=str), asyncio.Event()
    written = app.Table("written", key_type=str, value_type=str, options={"indexes": ["value"]})
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(texts, concurrency=2)
    async def write(stream: Any) -> None:
        async for key, text in stream.items():
            if key == "slow":
                await gate.wait()
            written[key] = text

    @app.agent(texts)
    async def count(stream: Any) -> None:
        async for key, text in stream.items():
            assert text
            counts[key] += 1

    def letters() -> Awaitable[list[tuple[Any, ...]]]:
        return fetch(database_url, "SELECT agent, key FROM redfaust.dead_letters ORDER BY id")

    async def letters_about(*keys: bytes) -> bool:
        return {key for _, key in await letters()} == set(keys)

    async with running(app):
        await texts.send(key="slow", value="fine", partition=0)
        await texts.send(key="bad", value=TOO_LONG, partition=0)
        await eventually(lambda: letters_about(b"bad"))
        await texts.send(key="worse", value=TOO_LONG, partition=0)
        await eventually(lambda: letters_about(b"bad", b"worse"))
        gate.set()
        await eventually(lambda: all_finished(app, "texts"))
    assert [key for _, key in await letters()] == [b"bad", b"worse"]
    rows = await fetch(database_url, "SELECT key, value::int FROM test.counts ORDER BY key")
    assert rows == [("bad", 1), ("slow", 1), ("worse", 1)]


async def test_what_another_agent_tries_again_is_not_meant(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is remembered until the position has passed it, which the slow event prevents."""
    monkeypatch.setattr("redfaust.transports.commits.DRAIN_FOR", 0.1)
    app = new_app("memory://another", database_url, partitions=1)
    texts, gate, failed = app.topic("texts", key_type=str), asyncio.Event(), asyncio.Event()
    written = app.Table("written", key_type=str, value_type=str, options={"indexes": ["value"]})
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(texts, concurrency=2)
    async def write(stream: Any) -> None:
        async for key, text in stream.items():
            if key == "slow":
                await gate.wait()
            else:
                await eventually(is_parked)
            written[key] = text

    @app.agent(texts, retries=Retries(delay=1, jitter=0))
    async def count(stream: Any) -> None:
        async for key, text in stream.items():
            assert text
            if key == "bad" and not failed.is_set():
                failed.set()
                raise ValueError(key)
            counts[key] += 1

    async def is_parked() -> bool:
        parked = await fetch(database_url, "SELECT key FROM redfaust.parked")
        return bool(parked) or counts.get("bad") == 1

    async def is_counted() -> bool:
        return counts.get("bad") == 1 or len(await letters()) > 1

    def letters() -> Awaitable[list[tuple[Any, ...]]]:
        return fetch(database_url, "SELECT agent, key FROM redfaust.dead_letters ORDER BY id")

    async with running(app):
        await texts.send(key="slow", value="fine", partition=0)
        await texts.send(key="bad", value=TOO_LONG, partition=0)
        await eventually(is_counted)
        gate.set()
        await eventually(lambda: all_finished(app, "texts"))
    assert [key for _, key in await letters()] == [b"bad"]
    rows = await fetch(database_url, "SELECT key, value::int FROM test.counts ORDER BY key")
    assert rows == [("bad", 1), ("slow", 1)]
