from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from redfaust.outbox.headers import pack, unpack
from redfaust.outbox.outbox import Outbox, OutboxStatus, Transaction, outbox_status
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load
from tests.rights import as_owner


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    owner = await Database.connect(as_owner(database_url))
    await owner.pool.execute("CREATE TABLE orders (id text)")
    await owner.close()
    database = await Database.connect(database_url)
    yield database
    await database.close()


async def rows(database: Database) -> list[asyncpg.Record]:
    async with database.transaction() as connection:
        return await connection.fetch("SELECT * FROM redfaust.outbox ORDER BY id")


async def sql(database: Database, statement: str, *arguments: object) -> Any:
    async with database.transaction() as connection:
        return await connection.fetchval(statement, *arguments)


async def test_rows_and_events_commit_together(database: Database) -> None:
    async with Outbox(database).transaction() as tx:
        await tx.connection.execute("INSERT INTO orders VALUES ('o-1')")
        first = await tx.publish("orders", b'{"a":1}', key="o-1", headers={"type": "OrderCreated"})
        second = await tx.publish("orders", None, key=b"\xff\x00")

    one, two = await rows(database)
    assert (one["id"], two["id"]) == (first, second)
    assert (one["topic"], one["key"], one["value"]) == ("orders", b"o-1", b'{"a":1}')
    assert one["headers"] == {"type": "OrderCreated"}
    assert one["available_at"] is None
    assert (two["key"], two["value"], two["headers"]) == (b"\xff\x00", None, {})
    assert await sql(database, "SELECT id FROM orders") == "o-1"


async def test_an_exception_takes_rows_and_events_back(database: Database) -> None:
    async def fail() -> None:
        async with Outbox(database).transaction() as tx:
            await tx.connection.execute("INSERT INTO orders VALUES ('o-1')")
            await tx.publish("orders", b"{}")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await rows(database) == []
    assert await sql(database, "SELECT id FROM orders") is None


async def test_what_cannot_be_published_says_why(database: Database) -> None:
    async with database.transaction() as connection:
        tx = Transaction(connection)
        with pytest.raises(ValueError, match="a topic has no name"):
            await tx.publish("", b"{}")
        with pytest.raises(ValueError, match="time zone"):
            await tx.publish("orders", b"{}", available_at=datetime.now())  # noqa: DTZ005


async def test_sql_publishes_json(database: Database) -> None:
    number = await sql(
        database,
        """SELECT redfaust.publish('orders', 'ö-1', '{"sku": "ä"}',
                                   '{"type": "OrderCreated", "version": 1, "none": null}')""",
    )
    (row,) = await rows(database)
    assert row["id"] == number
    assert (row["key"], row["value"]) == ("ö-1".encode(), '{"sku": "ä"}'.encode())
    assert row["headers"] == {"type": "OrderCreated", "version": "1"}
    assert row["available_at"] is None


async def test_sql_may_leave_out_nearly_everything(database: Database) -> None:
    await sql(database, "SELECT redfaust.publish('orders', NULL, NULL, NULL, NULL)")
    (row,) = await rows(database)
    assert (row["key"], row["value"], row["headers"]) == (None, None, {})
    assert row["available_at"] is None


@pytest.mark.parametrize("topic", ["''", "NULL"])
async def test_sql_needs_a_topic(database: Database, topic: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="needs a topic"):
        await sql(database, f"SELECT redfaust.publish({topic}, 'key', '{{}}')")


@pytest.mark.parametrize("topic", ["a" * 250, "a\nb", "a\x1b[31m", "a\x85"])
async def test_sql_needs_a_topic_that_is_a_name(database: Database, topic: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="needs a topic of 1 to 249"):
        await sql(database, "SELECT redfaust.publish($1, 'key', '{}')", topic)
    with pytest.raises(asyncpg.CheckViolationError, match="outbox_topic"):
        await sql(database, "INSERT INTO redfaust.outbox (topic) VALUES ($1)", topic)


async def test_sql_needs_a_time_that_comes(database: Database) -> None:
    publish = (
        "SELECT redfaust.publish('orders', 'key', '{}', available_at => $1::text::timestamptz)"
    )
    for never in ("infinity", "10000-01-01 UTC", "294276-12-31 UTC"):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="before the year 10000"):
            await sql(database, publish, never)
    await sql(database, publish, "-infinity")  # is over: at once
    status = await outbox_status(database)
    assert (status.depth, status.scheduled) == (1, 0)


async def test_sql_needs_a_key_that_is_one(database: Database) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="key of at most 1048576 bytes"):
        await sql(database, "SELECT redfaust.publish('orders', repeat('x', 1048577), '{}')")


@pytest.mark.parametrize(
    ("columns", "values", "constraint"),
    [
        ("timestamp", "'nan'", "outbox_timestamp"),
        ("timestamp", "'infinity'", "outbox_timestamp"),
        ("timestamp", "-1", "outbox_timestamp"),
        ("timestamp", "1e308", "outbox_timestamp"),
        ("available_at", "'infinity'", "outbox_available_at"),
        ("available_at", "'-infinity'", "outbox_available_at"),
        ("available_at", "'10000-01-01 UTC'", "outbox_available_at"),
        ("partition", "-1", "outbox_partition"),
        ("key", "convert_to(repeat('x', 1048577), 'UTF8')", "outbox_key_size"),
        ("created_at", "'infinity'", "outbox_created_at"),
        ("headers", "jsonb_build_object('long', repeat('x', 1048576))", "outbox_headers_size"),
        ("headers", """'{"n": 1e400}'""", "outbox_headers"),
        ("headers", """'{"n": 1}'""", "outbox_headers"),
        ("headers", """'{"n": null}'""", "outbox_headers"),
        (
            "headers",
            "concat('{\"n\": ', repeat('[', 2000), repeat(']', 2000), '}')::jsonb",
            "headers",
        ),
        ("headers", """'[["a", "Yg=="], 7]'""", "outbox_headers"),
        ("headers", """'[["a"]]'""", "outbox_headers"),
        ("headers", """'[["a", "Yg==", "c"]]'""", "outbox_headers"),
        ("headers", """'[["a", 1]]'""", "outbox_headers"),
        ("headers", """'[{"a": "b"}]'""", "outbox_headers"),
        ("headers", """'"text"'""", "outbox_headers"),
    ],
)
async def test_a_row_that_could_not_be_published_is_refused(
    database: Database, columns: str, values: str, constraint: str
) -> None:
    statement = f"INSERT INTO redfaust.outbox (topic, {columns}) VALUES ('orders', {values})"
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await sql(database, statement)


async def test_sql_takes_known_topics_alone_where_some_are_named(database: Database) -> None:
    await sql(database, "SELECT redfaust.publish('topcs', NULL, '{}')")
    await sql(database, "INSERT INTO redfaust.topics (name) VALUES ('topics'), ('orders')")
    await sql(database, "SELECT redfaust.publish('topics', NULL, '{}')")
    with pytest.raises(asyncpg.InvalidParameterValueError, match="no topic topcs") as error:
        await sql(database, "SELECT redfaust.publish('topcs', NULL, '{}')")
    assert "Did you mean topics? It knows topics, orders." in str(error.value.hint)
    with pytest.raises(asyncpg.InvalidParameterValueError, match="no topic order"):
        async with Outbox(database).transaction() as tx:
            await tx.publish("order", b"{}")


async def test_sql_needs_headers_and_values_of_bounded_size(database: Database) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="headers of at most 1048576"):
        await sql(
            database,
            "SELECT redfaust.publish('orders', 'key', '{}',"
            " jsonb_build_object('long', repeat('x', 1048576)))",
        )


async def test_headers_that_are_no_texts_are_published_as_texts(database: Database) -> None:
    headers = '{"n": 1e400, "deep": [[[1]]], "none": null, "t": "x"}'
    await sql(database, "SELECT redfaust.publish('orders', 'key', '{}', $1::text::jsonb)", headers)
    [row] = await rows(database)
    assert row["headers"] == {"n": "1" + "0" * 400, "deep": "[[[1]]]", "t": "x"}


@pytest.mark.parametrize("headers", ["[]", '"text"', "null"])
async def test_sql_needs_headers_that_are_an_object(database: Database, headers: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="JSON object"):
        await sql(database, f"SELECT redfaust.publish('orders', 'key', '{{}}', '{headers}')")


async def test_the_status_counts_due_and_scheduled_rows(database: Database) -> None:
    assert await outbox_status(database) == OutboxStatus(0, 0.0, 0, 0.0)
    now = datetime.now(UTC)
    async with Outbox(database).transaction() as tx:
        await tx.publish("orders", b"1")
        await tx.publish("orders", b"2", available_at=now - timedelta(minutes=1))
        await tx.publish("orders", b"3", available_at=now + timedelta(hours=1))
        await tx.publish("orders", b"4", available_at=now + timedelta(hours=2))
    status = await outbox_status(database)
    assert (status.depth, status.scheduled) == (2, 2)
    assert status.oldest_age == pytest.approx(0, abs=5)

    # An hour passes for the third: it is due since a moment, however long ago it was written.
    await sql(
        database,
        "UPDATE redfaust.outbox SET created_at = now() - interval '1 hour',"
        " available_at = now() - interval '10 s' WHERE id = 3",
    )
    await sql(database, "DELETE FROM redfaust.outbox WHERE id < 3")
    status = await outbox_status(database)
    assert (status.depth, status.scheduled) == (1, 1)
    assert status.oldest_age == pytest.approx(10, abs=5)


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("analyzed", [True, False], ids=["analyzed", "not analyzed"])
async def test_claiming_due_rows_reads_no_others(
    database: Database, plans: str, analyzed: bool
) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO redfaust.outbox (topic, available_at) "
            "SELECT 'orders', CASE WHEN n % 2 = 0 THEN now() + interval '1 day' END "
            "FROM generate_series(1, 20000) AS n"
        )
        if analyzed:
            await connection.execute("ANALYZE redfaust.outbox")
        await connection.execute(f"SET LOCAL plan_cache_mode = {plans}")
        claim = load("redfaust.outbox", "claim_due")
        await connection.execute(f"PREPARE claim (text, bigint, bigint, bigint) AS {claim}")
        plan = await connection.fetch("EXPLAIN EXECUTE claim ('producer', 0, 500, 1000)")
    lines = "\n".join(line for (line,) in plan)
    assert "outbox_ready" in lines
    assert "outbox_scheduled" in lines
    assert "outbox_pkey" in lines
    assert "Seq Scan on outbox" not in lines


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("type", b"OrderCreated"),),
        (("b", b"\xff\x00"), ("a", b""), ("b", b"again")),
    ],
)
def test_packed_headers_come_back_exactly(headers: tuple[tuple[str, bytes], ...]) -> None:
    assert unpack(pack(headers)) == headers


def test_packed_names_are_storable() -> None:
    assert unpack(pack((("a\0b\ud800", b"x"),))) == (("ab?", b"x"),)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (
            {"a": "text", "b": 1, "c": {"d": None}},
            (("a", b"text"), ("b", b"1"), ("c", b'{"d":null}')),
        ),
        ([["a", "no base64!"]], (("a", b"no base64!"),)),
        ([["a"], 7], (("", b'["a"]'), ("", b"7"))),
    ],
)
def test_headers_written_by_hand_never_stop_the_relay(
    stored: object, expected: tuple[tuple[str, bytes], ...]
) -> None:
    assert unpack(stored) == expected
