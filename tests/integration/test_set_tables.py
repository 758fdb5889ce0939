"""Tables of sets."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import faust
import orjson
import pytest
from pydantic import BaseModel

from redfaust.postgres.database import Database
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished


class Place:
    """Where people are, by the application that keeps book of it."""

    def __init__(self, broker: str, store: str, **options: Any) -> None:
        self.app = new_app(broker, store, partitions=2)
        self.moves = self.app.topic("moves", key_type=str)
        self.people: Any = self.app.SetTable("people", value_type=str, **options)
        self.seen: list[Any] = []

        @self.app.agent(self.moves)
        async def move(stream: Any) -> None:
            async for key, (how, names) in stream.items():
                self.do(self.people[key], how, names)
                self.seen.append(set(self.people[key]))
                if "Nobody" in names:
                    raise ValueError("nobody cannot move")

    @staticmethod
    def do(people: Any, how: str, names: Iterable[str]) -> None:
        if how in {"add", "discard"}:
            for name in names:
                getattr(people, how)(name)
        else:
            getattr(people, how)(names)

    async def move(self, key: str, how: str, *names: str) -> None:
        await (await self.moves.send(key=key, value=[how, names]))
        await eventually(lambda: all_finished(self.app, "moves"))


async def rows(database_url: str, table: str = "people") -> dict[str, set[Any]]:
    database = await Database.connect(database_url)
    found = await database.pool.fetch(f"SELECT key, value::text AS value FROM test.{table}")
    await database.close()
    return {row["key"]: set(orjson.loads(row["value"])) for row in found}


async def test_sets_are_rows(database_url: str) -> None:
    broker = f"memory://{uuid.uuid4().hex}"
    place = Place(broker, database_url)
    async with running(place.app):
        await place.move("office", "add", "Ann", "Bob", "Cid")
        await place.move("home", "update", "Dan", "Eve")
        await place.move("office", "discard", "Bob", "Zoe")
        await place.move("home", "symmetric_difference_update", "Eve", "Fay")
    assert await rows(database_url) == {"office": {"Ann", "Cid"}, "home": {"Dan", "Fay"}}
    again = Place(broker, database_url)
    async with running(again.app):
        await again.move("office", "intersection_update", "Cid", "Dan")
        await again.move("home", "difference_update", "Dan")
        assert again.seen == [{"Cid"}, {"Fay"}]
        assert dict(again.people.items()) == {"office": {"Cid"}, "home": {"Fay"}}
        assert "'Cid'" in again.people.as_ansitable()
    assert await rows(database_url) == {"office": {"Cid"}, "home": {"Fay"}}


async def test_what_a_failed_event_did_vanishes(database_url: str) -> None:
    place = Place(f"memory://{uuid.uuid4().hex}", database_url)
    async with running(place.app):
        await place.move("office", "add", "Ann")
        await place.move("office", "add", "Bob", "Nobody")
        assert {"Ann", "Bob", "Nobody"} in place.seen
        assert place.people["office"] == {"Ann"}
        await place.move("office", "add", "Cid")
    assert await rows(database_url) == {"office": {"Ann", "Cid"}}


async def test_an_operation_is_one_write(database_url: str) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", database_url, partitions=1)
    words = app.topic("words", key_type=str)
    table: Any = app.SetTable("sets")
    came: list[Any] = []

    @app.agent(words)
    async def check(stream: Any) -> None:
        async for key, members in stream.items():
            stored = table[key]
            stored |= members
            table[key] -= {1}
            table[key] ^= {2, 3}
            table[key] &= {3, 4, "x"}
            stored.add(("a", "tuple"))
            came.extend([stored.copy(), stored | {9}, stored.union([8]), stored & {4}])
            came.extend(
                [stored.pop() in came[0], len(stored), 4 in stored, stored.issubset(came[0])]
            )
            with pytest.raises(NotImplementedError):
                table[key] = {1}

    async with running(app):
        await (await words.send(key="k", value=[1, 2, 4]))
        await eventually(lambda: all_finished(app, "words"))
    full = {3, 4, ("a", "tuple")}
    assert came[:4] == [full, full | {9}, full | {8}, {4}]
    assert came[4:6] == [True, 2]
    assert came[7] is True


class Person(faust.Record):
    """A member that is a model of Faust's."""

    name: str

    def __hash__(self) -> int:
        return hash(self.name)


class Model(BaseModel, frozen=True):
    """A member that is a model of pydantic's."""

    name: str


@pytest.mark.parametrize("kind", [Person, Model])
async def test_members_may_be_models(database_url: str, kind: Any) -> None:
    broker = f"memory://{uuid.uuid4().hex}"
    found: list[Any] = []
    for turn in (1, 2):
        app = new_app(broker, database_url, partitions=1)
        words = app.topic("words", key_type=str)
        table: Any = app.SetTable("sets", value_type=kind)

        @app.agent(words)
        async def add(stream: Any, table: Any = table) -> None:
            async for key, name in stream.items():
                found.append({person.name for person in table[key]})
                table[key].add(kind(name=name))

        async with running(app):
            await (await words.send(key="k", value=f"Ann {turn}"))
            await eventually(lambda: all_finished(app, "words"))  # noqa: B023
    assert found == [set(), {"Ann 1"}]


@pytest.mark.parametrize("kind", ["memory", "postgresql"])
async def test_managers_route_operations(kind: str, database_url: str) -> None:
    store = database_url if kind == "postgresql" else "memory://"
    place = Place(f"memory://{uuid.uuid4().hex}", store, start_manager=True)
    others: Any = place.app.SetTable("others", start_manager=True)
    async with running(place.app):
        await place.people.manager.add("office", "Ann")
        await place.people.manager.add("office", "Bob")
        await place.people.manager.symmetric_difference_update("office", ["Bob", "Cid"])
        await others.manager.add("x", "y")
        await eventually(lambda: place.people["office"] == {"Ann", "Cid"} and others["x"] == {"y"})
        await place.people.manager.clear("office")
        await eventually(lambda: not place.people["office"])


async def test_sets_may_be_windowed(database_url: str) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", database_url, partitions=1)
    words = app.topic("words", key_type=str)
    table: Any = app.SetTable("sets").tumbling(3600.0, key_index=False)
    seen: list[Any] = []

    @app.agent(words)
    async def add(stream: Any) -> None:
        async for key, word in stream.items():
            table[key].add(word)
            seen.append(set(table[key].current()))

    async with running(app):
        for word in ("one", "two"):
            await (await words.send(key="k", value=word, timestamp=7200.5))
        await eventually(lambda: all_finished(app, "words"))
    assert seen[-1] == {"one", "two"}
