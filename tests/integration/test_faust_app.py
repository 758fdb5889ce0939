"""What applications of Faust leave in Postgres."""

from __future__ import annotations

from typing import Any

import asyncpg
import faust
import pytest
from pydantic import BaseModel

from redfaust.brokers.kafka.broker import KafkaBroker
from redfaust.postgres.identifiers import index_name
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import eventually, new_app, running


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
    names = [index_name("people", column) for column in ("key", "name", "partition")]
    assert indexes == [(name,) for name in names]


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


async def test_a_postgres_store_without_our_broker_is_refused() -> None:
    app = new_app("confluent://localhost", "postgresql://localhost/x")
    with pytest.raises(faust.exceptions.ImproperlyConfigured, match="needs a broker"):
        app.finalize()


def test_kafka_without_a_postgres_store_is_as_faust_has_it() -> None:
    app = new_app("kafka://localhost", "memory://")
    app.finalize()
    assert app.conf.broker_commit_interval == 2.8
    assert type(app.transport).__module__ == "faust.transport.drivers.aiokafka"


def test_kafka_with_a_postgres_store_is_a_broker_of_ours() -> None:
    app = new_app("kafka://one:1,two:2;kafka://three:3", "postgresql://localhost/x")
    app.finalize()
    assert isinstance(app.transport.broker, KafkaBroker)  # type: ignore[attr-defined]
    assert [url.host for url in app.transport.url] == ["one", "two", "three"]
