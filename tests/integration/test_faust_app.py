"""Applications of Faust on every broker, with tables in Postgres."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import faust
import pytest
from faust.types import TP
from pydantic import BaseModel

from connectors.transports.consumer import Consumer
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running


async def lag(app: faust.App, topic: str) -> int:
    assert isinstance(app.consumer, Consumer)
    return sum(p.lag for p in await app.consumer.broker.status(app.conf.id, topic))


async def fetch(database_url: str, query: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def counting_app(broker: str, database: str) -> tuple[faust.App, Any, Any]:
    app = new_app(broker, database)
    words = app.topic("words", key_type=str)
    counts = app.Table("counts", default=int, key_type=str, value_type=int)

    @app.agent(words)
    async def count(stream: Any) -> None:
        async for word, number in stream.items():
            if number == "boom":
                raise ValueError("cannot count that")
            counts[word] += number

    return app, words, counts


async def test_a_table_is_an_ordinary_table(any_broker_url: str, database_url: str) -> None:
    app, words, _ = counting_app(any_broker_url, database_url)
    async with running(app):
        for n in range(100):
            await words.send(key=f"word-{n % 5}", value=n)
        await eventually(lambda: _no_lag(app, "words"))
    rows = await fetch(database_url, "SELECT key, value::int FROM test.counts ORDER BY key")
    assert rows == [(f"word-{k}", sum(range(k, 100, 5))) for k in range(5)]


async def _no_lag(app: faust.App, topic: str) -> bool:
    assert isinstance(app.consumer, Consumer)
    status = await app.consumer.broker.status(app.conf.id, topic)
    return any(p.length for p in status) and not any(p.lag for p in status)


class Person(BaseModel):
    name: str
    age: int


class OlderPerson(Person):
    town: str | None = None


async def test_a_model_gives_its_table_typed_columns(database_url: str) -> None:
    for model, town in ((Person, None), (OlderPerson, "Ulm")):
        app = new_app(f"memory://{model.__name__}", database_url)
        people = app.topic("people", key_type=str)
        table = app.Table("people", key_type=str, value_type=model, options={"indexes": ["name"]})

        @app.agent(people)
        async def store(stream: Any) -> None:
            async for key, value in stream.items():
                table[key] = model.model_validate(value)  # noqa: B023 - within its round

        async with running(app):
            value = {"name": "Ada", "age": 36, "town": town}
            await people.send(key=model.__name__, value=value)
            await eventually(lambda: _no_lag(app, "people"))  # noqa: B023
            assert all(isinstance(row, model) for row in table.values())
    rows = await fetch(database_url, "SELECT key, name, age, town FROM test.people ORDER BY key")
    assert rows == [("OlderPerson", "Ada", 36, "Ulm"), ("Person", "Ada", 36, None)]
    indexes = await fetch(
        database_url, "SELECT indexname FROM pg_indexes WHERE tablename = 'people' ORDER BY 1"
    )
    assert indexes == [("people_name",), ("people_partition",), ("people_pkey",)]


async def test_a_restarted_application_goes_on_where_it_was(
    any_broker_url: str, database_url: str
) -> None:
    for _ in range(3):
        app, words, counts = counting_app(any_broker_url, database_url)
        async with running(app):
            for _ in range(10):
                await words.send(key="word", value=1)
            await eventually(lambda: _no_lag(app, "words"))  # noqa: B023 - awaited here
        total = counts["word"]
    assert total == 30
    assert await fetch(database_url, "SELECT value::int FROM test.counts") == [(30,)]


async def test_a_failing_event_is_set_aside_and_stops_nobody(
    any_broker_url: str, database_url: str
) -> None:
    app, words, counts = counting_app(any_broker_url, database_url)
    async with running(app):
        for number in (1, "boom", 2, "boom", 3):
            await words.send(key="word", value=number)
        await eventually(lambda: counts["word"] == 6)
        await eventually(lambda: _no_lag(app, "words"))
    letters = await fetch(
        database_url, "SELECT agent, topic, key, value, error, state FROM redfaust.dead_letters"
    )
    agent = app.agents.popitem()[0]
    assert letters == [(agent, "words", b"word", b'"boom"', "cannot count that", "waiting")] * 2


async def test_an_undecodable_event_is_set_aside_with_its_bytes(
    any_broker_url: str, database_url: str
) -> None:
    app, words, counts = counting_app(any_broker_url, database_url)
    async with running(app):
        await words.send(key="word", value=b"\xffnot json", value_serializer="raw")
        await words.send(key="word", value=1)
        await eventually(lambda: counts["word"] == 1)
        await eventually(lambda: _no_lag(app, "words"))
    assert await fetch(database_url, "SELECT key, value FROM redfaust.dead_letters") == [
        (b"word", b"\xffnot json")
    ]


async def test_the_position_does_not_pass_an_unfinished_event(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.transports.commits.DRAIN_FOR", 0.1)
    held = asyncio.Event()
    seen: list[int] = []

    def slow_app() -> tuple[faust.App, Any]:
        app = new_app(any_broker_url, database_url)
        numbers = app.topic("numbers", key_type=str, partitions=1)

        @app.agent(numbers, concurrency=4)
        async def work(stream: Any) -> None:
            async for number in stream:
                if number == 2:
                    await held.wait()
                seen.append(number)

        return app, numbers

    app, numbers = slow_app()
    async with running(app):
        for number in range(8):
            await numbers.send(key=f"key-{number}", value=number)
        await eventually(lambda: sorted(seen) == [0, 1, 3, 4, 5, 6, 7])
        await eventually(lambda: _position_of(app, "numbers", 6))
    assert sorted(seen) == [0, 1, 3, 4, 5, 6, 7]
    seen.clear()
    held.set()
    again, _ = slow_app()
    async with running(again):
        await eventually(lambda: _no_lag(again, "numbers"))
    assert seen == [2]


async def _position_of(app: faust.App, topic: str, lag_wanted: int) -> bool:
    return await lag(app, topic) == lag_wanted


async def test_a_table_refuses_a_key_of_another_partition(
    any_broker_url: str, database_url: str
) -> None:
    app = new_app(any_broker_url, database_url)
    words = app.topic("words", key_type=str)
    counts = app.Table("counts", default=int, key_type=str)

    @app.agent(words)
    async def count(stream: Any) -> None:
        async for word in stream:
            counts[word] += 1

    async with running(app):
        for n in range(20):
            await words.send(key="the same", value=f"word-{n}")
        await eventually(lambda: _no_lag(app, "words"))
    [(error,)] = await fetch(database_url, "SELECT DISTINCT error_type FROM redfaust.dead_letters")
    assert error.endswith("WrongPartition")
    assert 0 < len(counts) < 20


async def test_group_by_repartitions(any_broker_url: str, database_url: str) -> None:
    app = new_app(any_broker_url, database_url)
    words = app.topic("words", key_type=str)
    counts = app.Table("counts", default=int, key_type=str)

    async def itself(word: str) -> str:
        return word

    @app.agent(words)
    async def count(stream: Any) -> None:
        async for word in stream.group_by(itself, name="itself"):
            counts[word] += 1

    async with running(app):
        for n in range(20):
            await words.send(key="the same", value=f"word-{n % 10}")
        await eventually(lambda: dict(counts.items()) == {f"word-{n}": 2 for n in range(10)})


async def test_take_gets_batches(any_broker_url: str) -> None:
    app = new_app(any_broker_url)
    numbers = app.topic("numbers", key_type=str)
    batches: list[list[int]] = []

    @app.agent(numbers)
    async def work(stream: Any) -> None:
        async for batch in stream.take(10, within=0.2):
            batches.append(list(batch))

    async with running(app):
        for number in range(25):
            await numbers.send(key="k", value=number)
        await eventually(lambda: sum(map(len, batches)) == 25)
        await eventually(lambda: _no_lag(app, "numbers"))
    assert [n for batch in batches for n in batch] == list(range(25))
    assert max(map(len, batches)) == 10


async def test_every_agent_of_a_topic_gets_every_event(any_broker_url: str) -> None:
    app = new_app(any_broker_url)
    numbers = app.topic("numbers", key_type=str)
    got: dict[str, list[int]] = {"one": [], "two": []}

    def declare(name: str) -> None:
        @app.agent(numbers, name=name)
        async def work(stream: Any) -> None:
            async for number in stream:
                got[name].append(number)

    for name in got:
        declare(name)
    async with running(app):
        for number in range(10):
            await numbers.send(key="k", value=number)
        await eventually(lambda: got == {"one": list(range(10)), "two": list(range(10))})


async def test_a_second_worker_takes_its_share_and_then_the_rest(
    any_broker_url: str, database_url: str
) -> None:
    first, words, _ = counting_app(any_broker_url, database_url)
    second, _, counts = counting_app(any_broker_url, database_url)
    async with running(first):
        await words.send(key="word", value=1)
        await eventually(lambda: _no_lag(first, "words"))
        await asyncio.wait_for(second.start(), PATIENCE)
        await eventually(lambda: len(_words(second)) == len(_words(first)) == 2)
    try:
        await eventually(lambda: len(_words(second)) == 4)
        await second.topics.maybe_wait_for_subscriptions()
        await eventually(lambda: counts["word"] == 1)
    finally:
        await asyncio.wait_for(second.stop(), PATIENCE)


def _words(app: faust.App) -> list[TP]:
    return [tp for tp in app.consumer.assignment() if tp.topic == "words"]


async def test_a_postgres_store_without_our_broker_is_refused() -> None:
    app = new_app("kafka://localhost", "postgresql://localhost/x")
    with pytest.raises(faust.exceptions.ImproperlyConfigured, match="needs a broker"):
        app.finalize()
