"""Tables, columns and indexes have names of their own, however long or odd these are, and follow
their declaration from release to release."""

from __future__ import annotations

from typing import Any

import asyncpg
import faust
import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from connectors.errors import TableUnfit
from connectors.postgres.identifiers import LONGEST, stored_name
from tests.integration.faust_apps import eventually, new_app, running

LONG = "t" * LONGEST


def writing(broker: str, store: str, *tables: str, model: Any = dict) -> tuple[faust.App, Any]:
    """An application that writes each event's value to all tables."""
    app = new_app(broker, store, partitions=1)
    topic: Any = app.topic("rows", key_type=str)
    written = [app.Table(name, key_type=str, value_type=model) for name in tables]

    @app.agent(topic)
    async def write(stream: Any) -> None:
        async for key, value in stream.items():
            for place, table in enumerate(written):
                row = {"table": place, **value} if model is dict else model.model_validate(value)
                table[key] = row

    return app, topic


async def fetch(url: str, query: str, *arguments: object) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


async def write_one(app: faust.App, topic: Any, url: str, table: str, value: Any) -> None:
    """Start, write one row, stop."""
    async with running(app):
        await topic.send(key="k", value=value)

        async def is_there() -> bool:
            return bool(await fetch(url, f'SELECT key FROM test."{stored_name(table)}"'))

        await eventually(is_there)


async def test_long_names_of_two_tables_stay_apart(any_broker_url: str, database_url: str) -> None:
    names = (f"{LONG}-one", f"{LONG}-two")
    app, topic = writing(any_broker_url, database_url, *names)
    await write_one(app, topic, database_url, names[1], {})
    for place, name in enumerate(names):
        [(value,)] = await fetch(
            database_url, f"SELECT value ->> 'table' FROM test.\"{stored_name(name)}\""
        )
        assert value == str(place)


async def test_a_table_may_have_the_name_that_an_index_would_have(
    any_broker_url: str, database_url: str
) -> None:
    app, topic = writing(any_broker_url, database_url, "rows", "rows_partition")
    await write_one(app, topic, database_url, "rows_partition", {})
    again, topic = writing(any_broker_url, database_url, "rows_partition", "rows")
    await write_one(again, topic, database_url, "rows", {})


async def test_long_and_odd_fields_have_columns_also_at_the_second_start(
    any_broker_url: str, database_url: str
) -> None:
    fields: dict[str, Any] = {
        "f" * 70: (int, 1),
        "f" * 69 + "g": (int, 2),
        "Case": (int, 3),
        "case": (int, 4),
        "order": (int, 5),
        "xmin": (int, 6),
        "key": (int, 7),
    }
    odd = create_model("Odd", **fields)
    for _ in range(2):
        app, topic = writing(any_broker_url, database_url, "odd", model=odd)
        await write_one(app, topic, database_url, "odd", {})
    long, other = stored_name("f" * 70), stored_name("f" * 69 + "g")
    query = f'SELECT "{long}", "{other}", "Case", "case", "order", value ->> \'xmin\' FROM test.odd'
    assert await fetch(database_url, query) == [(1, 2, 3, 4, 5, "6")]


class Before(BaseModel):
    size: int = 1
    name: str = "n"


class After(BaseModel):
    """The field has another type, and one is written under another name."""

    model_config = ConfigDict(serialize_by_alias=True)

    size: float = 0.5
    name: str = Field(default="n", serialization_alias="title")


async def test_a_column_follows_its_field_from_release_to_release(
    any_broker_url: str, database_url: str
) -> None:
    app, topic = writing(any_broker_url, database_url, "things", model=Before)
    await write_one(app, topic, database_url, "things", {})
    assert await fetch(database_url, "SELECT size, name FROM test.things") == [(1, "n")]

    app, topic = writing(any_broker_url, database_url, "things", model=After)
    async with running(app):
        await topic.send(key="k", value={"size": 1.5, "name": "m"})

        async def is_written() -> bool:
            found = await fetch(database_url, "SELECT size, name FROM test.things")
            return found == [(1.5, "m")]

        await eventually(is_written)
    assert await fetch(database_url, "SELECT count(*) FROM redfaust.dead_letters") == [(0,)]


async def test_rows_that_do_not_fit_a_new_type_are_named_at_the_start(
    any_broker_url: str, database_url: str
) -> None:
    worded = create_model("Worded", size=(str, "large"))
    app, topic = writing(any_broker_url, database_url, "things", model=worded)
    await write_one(app, topic, database_url, "things", {})
    app, _ = writing(any_broker_url, database_url, "things", model=Before)
    with pytest.raises(TableUnfit, match=r"rows whose size is no numeric .* change these rows"):
        async with running(app):
            pass
