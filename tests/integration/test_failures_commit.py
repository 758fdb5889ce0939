"""What Postgres refuses of a commit is traced to its event, whatever that did; others go on."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, cast

import asyncpg
import faust
import pytest

from redfaust.brokers.broker import Outgoing
from redfaust.postgres.database import Database
from redfaust.processing.dead_letters import DeadLetters, NewDeadLetter
from redfaust.processing.retries import Retries
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.integration.test_failures_tables import fetch
from tests.rights import as_owner

RAISE = """
CREATE FUNCTION test.look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.key = 'bad' THEN
        {what};
    END IF;
    RETURN new;
END
$$;
CREATE {when} TRIGGER look {moment} INSERT OR UPDATE ON test.rows {how}
    FOR EACH ROW EXECUTE FUNCTION test.look();
"""

BEFORE = {"when": "", "moment": "BEFORE", "how": ""}

REFUSING = {
    "a trigger": {**BEFORE, "what": "RAISE EXCEPTION 'not this one'"},
    "a trigger with a code of its own": {
        **BEFORE,
        "what": "RAISE EXCEPTION 'not this one' USING ERRCODE = 'SHOP1'",
    },
    "an assertion of a trigger": {**BEFORE, "what": "ASSERT false"},
    "a view's check option": {
        **BEFORE,
        "what": "RAISE EXCEPTION 'not this one' USING ERRCODE = '44000'",
    },
    "a constraint that is deferred to the commit": {
        "when": "CONSTRAINT",
        "moment": "AFTER",
        "how": "DEFERRABLE INITIALLY DEFERRED",
        "what": "RAISE EXCEPTION 'not this one'",
    },
}


async def execute(database_url: str, statements: str) -> None:
    connection = await asyncpg.connect(as_owner(database_url))
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


def writing_app(database_url: str) -> tuple[faust.App, Any, Any]:
    app = new_app(f"memory://{uuid.uuid4().hex}", database_url)
    names = app.topic("names", key_type=str, value_type=str)
    table = app.Table("rows", key_type=str, value_type=str, use_partitioner=True)

    @app.agent(names)
    async def write(stream: Any) -> None:
        async for name in stream:
            table[name] = "written"

    return app, names, table


@pytest.mark.parametrize("refusing", REFUSING)
async def test_an_event_whose_row_is_refused_by_a_trigger_is_a_dead_letter(
    database_url: str, refusing: str
) -> None:
    app, names, table = writing_app(database_url)
    async with running(app):
        await execute(database_url, RAISE.format(**REFUSING[refusing]))
        for name in ["a", "bad", "b", "c"]:
            await names.send(key="one", value=name)
        await eventually(lambda: app.crashed or len(table) >= 3)
        await eventually(lambda: all_finished(app, "names"))
        assert sorted(table) == ["a", "b", "c"]
    assert await fetch(database_url, "SELECT value FROM redfaust.dead_letters") == [(b'"bad"',)]
    assert len(await fetch(database_url, "SELECT key FROM test.rows")) == 3


async def test_a_row_that_refers_to_the_row_of_an_earlier_event_is_not_blamed(
    database_url: str,
) -> None:
    app, names, table = writing_app(database_url)
    async with running(app):
        await execute(
            database_url,
            RAISE.format(**REFUSING["a trigger"])
            + "CREATE FUNCTION test.needs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF new.key = 'child' AND NOT EXISTS (SELECT FROM test.rows WHERE key = 'parent') "
            "THEN RAISE EXCEPTION 'no parent'; END IF; RETURN new; END $$; "
            "CREATE CONSTRAINT TRIGGER needs AFTER INSERT ON test.rows "
            "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION test.needs()",
        )
        for name in ["parent", "x", "bad", "y", "child"]:
            await names.send(key="one", value=name)
        await eventually(lambda: app.crashed or len(table) >= 4)
        await eventually(lambda: all_finished(app, "names"))
    assert await fetch(database_url, "SELECT value FROM redfaust.dead_letters") == [(b'"bad"',)]


async def test_a_trigger_that_refuses_positions_is_waited_for(database_url: str) -> None:
    app, names, _ = writing_app(database_url)
    async with running(app):
        await execute(
            database_url,
            "CREATE FUNCTION test.never() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'not now'; END $$; "
            "CREATE TRIGGER never BEFORE UPDATE ON redfaust.positions "
            "FOR EACH ROW WHEN (new.position > old.position) EXECUTE FUNCTION test.never()",
        )
        await names.send(key="one", value="a")
        waiting = cast("Any", app.consumer).waiting
        await eventually(lambda: waiting.reason is not None)
        assert "not now" in waiting.reason
        await execute(database_url, "DROP TRIGGER never ON redfaust.positions")
        await eventually(lambda: waiting.reason is None)
        await eventually(lambda: all_finished(app, "names"))
    assert await fetch(database_url, "SELECT value FROM redfaust.dead_letters") == []
    assert await fetch(database_url, "SELECT key FROM test.rows") == [("a",)]


# What passes the checks of a send, to show what follows where Postgres refuses it all the same.
UNSTORABLE: Mapping[str, Outgoing] = {
    "a topic": Outgoing("a\0b", b"1"),
    "a partition": Outgoing("out", b"1", partition=2**31),
    "a value": Outgoing("out", cast("bytes", "text"), b"key"),
}


@pytest.mark.parametrize("what", UNSTORABLE)
@pytest.mark.parametrize("delivery", ["ordered", "shared"])
async def test_an_event_that_sends_what_postgres_refuses_is_a_dead_letter(
    database_url: str, what: str, delivery: str
) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", database_url)
    numbers, out = app.topic("numbers", key_type=str), app.topic("out")
    processed: set[int] = set()

    @app.agent(numbers, delivery=delivery)
    async def send(stream: Any) -> None:
        async for event in stream.events():
            if event.value == 2:
                outlet: Any = _outlet(app, event)
                outlet.send(event.message.tp, UNSTORABLE[what], ("", event.message.tp, 0))
                _blame(app, event)
            await out.send(key="k", value=event.value)
            processed.add(event.value)

    async with running(app):
        for number in range(1, 5):
            await numbers.send(key="k", value=number)
        await eventually(lambda: processed >= {1, 3, 4})
        await eventually(lambda: _letters(database_url, [(b"2",)]))
    assert app.crashed is False


def _outlet(app: Any, event: Any) -> Any:
    effects = getattr(event.message, "effects", None)
    return effects or app.tables.state_backend.unit


def _blame(app: Any, event: Any) -> None:
    """As the producer would have."""
    sent = app.tables.state_backend.unit._batch.sent
    cause = (next(iter(app.agents.values())).name, event.message.tp, event.message.offset)
    for tp, entries in sent.items():
        sent[tp] = [(entry, cause if by[0] == "" else by) for entry, by in entries]


async def _letters(database_url: str, expected: list[tuple[bytes]]) -> bool:
    return await fetch(database_url, "SELECT value FROM redfaust.dead_letters") == expected


class Hostile(Exception):
    """Cannot be shown at all."""

    def __str__(self) -> str:
        raise RuntimeError("no")


HOSTILE_LETTERS = {
    "its texts": ("a\0\ud800", (("a\0\ud800", b"\xff"),), Hostile("\0")),
    "its topic": ("t" * 9000, (), ValueError("\ud800\0")),
    "its correlation id": ("t", (("correlation_id", b"\0" * 200_000),), ValueError()),
}


@pytest.mark.parametrize("what", HOSTILE_LETTERS)
async def test_a_dead_letter_can_be_stored_whatever(migrated_url: str, what: str) -> None:
    topic, headers, error = HOSTILE_LETTERS[what]
    error.__cause__ = Hostile()
    letter = NewDeadLetter("app\0", "agent\0", topic, 0, 0, b"k", b"v", headers, error, 1)
    database = await Database.connect(migrated_url)
    letters = DeadLetters(database)
    kept = await letters.get(await letters.add(letter))
    await database.close()
    assert kept.value == b"v"


async def test_a_dead_letter_that_is_refused_is_kept_without_its_content(database_url: str) -> None:
    app, names, table = writing_app(database_url)
    async with running(app):
        await execute(
            database_url,
            RAISE.format(**REFUSING["a trigger"])
            + "CREATE FUNCTION test.small() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF new.value IS NOT NULL THEN RAISE EXCEPTION 'too large'; END IF; RETURN new; END $$;"
            "CREATE TRIGGER small BEFORE INSERT ON redfaust.dead_letters "
            "FOR EACH ROW EXECUTE FUNCTION test.small()",
        )
        for name in ["bad", "a"]:
            await names.send(key="one", value=name)
        await eventually(lambda: app.crashed or "a" in table)
        await eventually(lambda: all_finished(app, "names"))
    [(value, error)] = await fetch(database_url, "SELECT value, error FROM redfaust.dead_letters")
    assert value is None
    assert all(part in error for part in ("not this one", "5 of value", "too large"))


@pytest.mark.parametrize("failing", [True, False], ids=["parked", "behind another"])
async def test_a_key_of_any_length_parks(database_url: str, failing: bool) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", database_url)
    numbers = app.topic("numbers", key_type=bytes, key_serializer="raw")
    key = b"".join(uuid.uuid4().bytes for _ in range(500))
    tries: list[int] = []

    @app.agent(numbers, retries=Retries(attempts=2, delay=0.01))
    async def fail(stream: Any) -> None:
        async for number in stream:
            tries.append(number)
            if (number == 1 and failing) or len(tries) == 1:
                raise ValueError("not this one")

    async with running(app):
        for number in (1, 2):
            await numbers.send(key=key, value=number)
        await eventually(lambda: app.crashed or 2 in tries)
        await eventually(lambda: all_finished(app, "numbers"))
        await eventually(lambda: _letters(database_url, [(b"1",)] if failing else []))
    assert tries == [1, 1, 2]


async def test_an_event_that_cannot_be_parked_is_a_dead_letter(database_url: str) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", database_url)
    numbers = app.topic("numbers", key_type=str)
    seen: list[int] = []

    @app.agent(numbers, retries=Retries(attempts=5, delay=0.01))
    async def fail(stream: Any) -> None:
        async for number in stream:
            seen.append(number)
            if number == 1:
                raise ValueError("not this one")

    async with running(app):
        await execute(database_url, "ALTER TABLE redfaust.parked ADD CHECK (key <> 'a')")
        await numbers.send(key="a", value=1)
        await numbers.send(key="b", value=2)
        await eventually(lambda: app.crashed or 2 in seen)
        await eventually(lambda: _letters(database_url, [(b"1",)]))
        await eventually(lambda: all_finished(app, "numbers"))
