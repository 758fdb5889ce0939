"""Tables, columns and indexes have names of their own, however long, and follow their model."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from faust.exceptions import ImproperlyConfigured
from pydantic import BaseModel, Field, create_model

from redfaust.postgres.identifiers import LONGEST_NAME, index_name, stored_name
from redfaust.processing.retries import NO_RETRIES
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.integration.test_partitions_of_writes import fetch, send_all
from tests.rights import as_owner

LONG = "a" * LONGEST_NAME


def test_names_that_are_too_long_stay_different_and_fit() -> None:
    names = [LONG, LONG + "b", LONG + "c", "ü" * 40, "ü" * 41, "A", "a"]
    stored = [stored_name(name) for name in names]
    assert len(set(stored)) == len(names)
    assert all(len(name.encode()) <= LONGEST_NAME for name in stored)
    assert stored[0] == LONG
    assert index_name("rows", "partition") != index_name("rows_partition", "")
    for name in ("", "a\0b"):
        with pytest.raises(ValueError, match="cannot be a name"):
            stored_name(name)


async def test_tables_whose_names_begin_alike_or_like_an_index_share_nothing(
    memory_url: str, database_url: str
) -> None:
    names = [LONG + "b", LONG + "c", "rows", "rows_partition", "rows_pkey", "Rows", 'a "b" {c}']
    for _ in range(2):
        app = new_app(memory_url, database_url)
        topic = app.topic("numbers", key_type=str)
        tables: list[Any] = [app.Table(name, key_type=str, default=int) for name in names]

        @app.agent(topic, retries=NO_RETRIES)
        async def count(stream: Any, tables: list[Any] = tables) -> None:
            async for key, number in stream.items():
                tables[number][key] += 1

        async with running(app):
            await send_all(topic, *[("a", number, None) for number in range(len(names))])
            await eventually(lambda: all_finished(app))  # noqa: B023 - within its round
    for name in names:
        quoted = stored_name(name).replace('"', '""')
        assert await fetch(database_url, f'SELECT value::int FROM test."{quoted}"') == [(2,)]


async def written(memory_url: str, database_url: str, row: BaseModel, key: str = "a") -> None:
    """Start a worker of a release whose rows are such, and have it write one."""
    app = new_app(memory_url, database_url)
    topic = app.topic("numbers", key_type=str)
    table: Any = app.Table("rows", key_type=str, value_type=type(row))

    @app.agent(topic, retries=NO_RETRIES)
    async def write(stream: Any) -> None:
        async for event in stream.events():
            table[event.key] = row

    async with running(app):
        await send_all(topic, (key, 1, None))
        await eventually(lambda: all_finished(app))


LONG_FIELD = "f" * 70


async def test_columns_follow_their_fields_from_release_to_release(
    memory_url: str, database_url: str
) -> None:
    fields: Any = {LONG_FIELD: (int, 1), LONG_FIELD + "b": (int, 2), "Select": (str, "x")}
    first = create_model("Row", amount=(int, 5), xmin=(int, 3), **fields)
    second = create_model("Row", amount=(str, "6"), **fields)
    third = create_model(
        "Row", amount=(float | None, Field(2.5, serialization_alias="sum")), **fields
    )
    types = []
    for key, model in (("a", first), ("a", first), ("b", second), ("c", third)):
        await written(memory_url, database_url, model(), key)
        [(column, amount)] = await fetch(
            database_url,
            f"SELECT pg_typeof(amount)::text, amount FROM test.rows WHERE key = '{key}'",
        )
        types.append((column, amount))
        long = await fetch(
            database_url,
            f'SELECT "{stored_name(LONG_FIELD)}"::int, "{stored_name(LONG_FIELD + "b")}"::int, '
            f"\"Select\" FROM test.rows WHERE key = '{key}'",
        )
        assert long == [(1, 2, "x")]
    assert types == [
        ("numeric", 5),
        ("numeric", 5),
        ("text", "6"),
        ("double precision", 2.5),
    ]
    assert await fetch(database_url, "SELECT * FROM redfaust.dead_letters") == []


async def test_a_column_that_cannot_follow_its_field_is_named_at_the_start(
    memory_url: str, database_url: str
) -> None:
    first, second = (create_model("Row", amount=(kind, kind(5))) for kind in (int, str))
    await written(memory_url, database_url, first())
    await fetch(as_owner(database_url), "CREATE VIEW test.amounts AS SELECT amount FROM test.rows")
    app = new_app(memory_url, database_url)
    app.Table("rows", key_type=str, value_type=second)
    with pytest.raises(ImproperlyConfigured, match=r"field 'amount' has changed.*amounts"):
        async with running(app):
            raise AssertionError("it has started")


async def test_a_name_that_a_view_has_is_refused_at_the_start(
    memory_url: str, database_url: str
) -> None:
    connection = await asyncpg.connect(as_owner(database_url))
    await connection.execute("CREATE SCHEMA test; CREATE VIEW test.rows AS SELECT 1")
    await connection.close()
    app = new_app(memory_url, database_url)
    app.Table("rows", key_type=str)
    with pytest.raises(ImproperlyConfigured, match="rename the table"):
        async with running(app):
            raise AssertionError("it has started")
