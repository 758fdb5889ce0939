"""The web API against a real Postgres."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from app.mailbox import keep
from app.schema import migrate_all
from app.settings import Settings
from app.status import Status
from app.status.text import render
from app.web.application import create_web
from app.web.limits import MAX_BODY_BYTES
from app.web.services import Services
from models.catalogue import EVENTS
from models.envelope import Message
from models.events import CartUpdated, Event, OrderCreated, UserCreated
from redfaust.brokers.broker import Heartbeat, Outgoing, TopicSpec
from redfaust.brokers.memory.broker import MemoryBroker
from redfaust.mail import ReceivedMail
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database
from redfaust.processing.dead_letters import DeadLetters, NewDeadLetter
from tests.rights import as_owner, as_web

ITEM = {"sku": "tea", "quantity": 2, "unit_price": 450}
ANN = {"email": "ann@example.org", "name": "Ann"}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """For the tables' owner."""
    database = await Database.connect(as_owner(database_url))
    await migrate_all(database)
    yield database
    await database.close()


@pytest.fixture
async def webs_database(database: Database, database_url: str) -> AsyncIterator[Database]:
    """The same for the web API."""
    database = await Database.connect(as_web(database_url))
    yield database
    await database.close()


@pytest.fixture
async def broker(database_url: str) -> AsyncIterator[MemoryBroker]:
    broker = MemoryBroker(f"memory://{database_url.rpartition('/')[2]}", default_partitions=2)
    await broker.open()
    yield broker
    await broker.close()


@pytest.fixture
async def services(webs_database: Database, broker: MemoryBroker) -> Services:
    return Services(webs_database, Outbox(webs_database), broker)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(broker=SecretStr("memory://"), database=SecretStr(database_url))


@pytest.fixture
async def client(settings: Settings, services: Services) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_web(settings, services, bound_to=["127.0.0.1"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


async def published(database: Database) -> list[tuple[str, str, Message[Event]]]:
    """What lies in the outbox: topic, key, message."""
    rows = await database.pool.fetch(
        "SELECT topic, key, value, headers FROM redfaust.outbox ORDER BY id"
    )
    return [
        (row["topic"], row["key"].decode(), EVENTS.parse(row["value"], row["headers"]))
        for row in rows
    ]


async def sign_up(client: httpx.AsyncClient) -> str:
    answer = await client.post("/api/users", json=ANN)
    assert answer.status_code == 201
    user_id: str = answer.json()["user_id"]
    return user_id


async def agents_made(database: Database, table: str, key: str, value: dict[str, Any]) -> None:
    """What a worker would have written."""
    await database.pool.execute(
        f"CREATE TABLE IF NOT EXISTS {table} (key text PRIMARY KEY, value jsonb NOT NULL, "
        "partition int NOT NULL, updated_at timestamptz NOT NULL DEFAULT now(), "
        "user_id text GENERATED ALWAYS AS (value ->> 'user_id') STORED)"
    )
    await database.pool.execute(f"INSERT INTO {table} VALUES ($1, $2, 0)", key, value)


# -- users -----------------------------------------------------------------------------------


async def test_signing_up_stores_the_user_and_publishes_it(
    client: httpx.AsyncClient, database: Database
) -> None:
    answer = await client.post("/api/users", json=ANN)
    assert answer.status_code == 201
    user_id = answer.json()["user_id"]
    assert answer.json() | ANN == answer.json()
    ((topic, key, message),) = await published(database)
    assert (topic, key) == ("users", user_id)
    assert message.event == UserCreated(user_id=user_id, **ANN)
    user = (await client.get(f"/api/users/{user_id}")).json()
    assert user == answer.json() | {"cart": {"user_id": user_id, "items": []}}


@pytest.mark.parametrize("email", ["ann@example.org", "ANN@example.org"])
async def test_an_email_is_taken_once(
    client: httpx.AsyncClient, database: Database, email: str
) -> None:
    await sign_up(client)
    answer = await client.post("/api/users", json={"email": email, "name": "Other"})
    assert answer.status_code == 409
    assert "email" in answer.json()["detail"]
    assert len(await published(database)) == 1


async def test_an_email_that_two_want_at_once_is_given_to_one(
    client: httpx.AsyncClient, database: Database
) -> None:
    answers = await asyncio.gather(*(client.post("/api/users", json=ANN) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
    assert len(await published(database)) == 1


# -- carts -----------------------------------------------------------------------------------


async def test_a_cart_is_replaced_by_an_event(
    client: httpx.AsyncClient, database: Database
) -> None:
    user_id = await sign_up(client)
    answer = await client.put(f"/api/users/{user_id}/cart", json={"items": [ITEM]})
    assert (answer.status_code, answer.json()) == (202, {"user_id": user_id, "items": [ITEM]})
    topic, key, message = (await published(database))[-1]
    assert (topic, key) == ("users", user_id)
    cart = {"user_id": user_id, "items": [ITEM], "cart_number": 1}
    assert message.event == CartUpdated.model_validate(cart)


async def test_a_cart_reads_as_the_agents_keep_it(
    client: httpx.AsyncClient, database: Database
) -> None:
    user_id = await sign_up(client)
    row = {"user_id": user_id, "items": [ITEM], "updated_at": "2030-01-01T00:00:00Z"}
    await agents_made(database, "carts", user_id, row)
    cart = {"user_id": user_id, "items": [ITEM]}
    assert (await client.get(f"/api/users/{user_id}/cart")).json() == cart
    assert (await client.get(f"/api/users/{user_id}")).json()["cart"] == cart


# -- orders ----------------------------------------------------------------------------------


async def place(client: httpx.AsyncClient, user_id: str, **headers: str) -> httpx.Response:
    order = {"user_id": user_id, "items": [ITEM, ITEM], "currency": "EUR"}
    return await client.post("/api/orders", json=order, headers=headers)


async def test_an_order_is_stored_and_published(
    client: httpx.AsyncClient, database: Database
) -> None:
    user_id = await sign_up(client)
    answer = await place(client, user_id)
    assert answer.status_code == 202
    order = answer.json()
    assert (order["status"], order["total"]) == ("placed", 1800)
    topic, key, message = (await published(database))[-1]
    assert (topic, key) == ("orders", order["order_id"])
    assert isinstance(message.event, OrderCreated)
    stored = await database.pool.fetchrow("SELECT * FROM orders")
    assert stored is not None
    assert (stored["order_id"], stored["items"], stored["total"]) == (key, [ITEM, ITEM], 1800)
    read = (await client.get(f"/api/orders/{key}")).json()
    assert read | order == read
    assert [change["status"] for change in read["history"]] == ["placed"]


async def test_an_order_names_the_cart_that_the_user_had_then(
    client: httpx.AsyncClient, database: Database
) -> None:
    user_id = await sign_up(client)
    cart, order = {"items": [ITEM]}, {"user_id": user_id, "items": [ITEM], "currency": "EUR"}
    for _ in range(2):
        assert (await client.post("/api/orders", json=order)).status_code == 202
        assert (await client.put(f"/api/users/{user_id}/cart", json=cart)).status_code == 202
    numbers = [getattr(m.event, "cart_number", None) for *_, m in await published(database)]
    assert numbers == [None, 0, 1, 1, 2]


async def test_an_order_reads_as_the_agents_keep_it(
    client: httpx.AsyncClient, database: Database
) -> None:
    at = "2030-01-01T00:00:00Z"
    state = {
        "order_id": "o-foreign",
        "user_id": "u-1",
        "items": [ITEM],
        "currency": "EUR",
        "status": "shipped",
        "history": [
            {"status": status, "at": at, "reason": None} for status in ("placed", "shipped")
        ],
    }
    await agents_made(database, "order_states", "o-foreign", state)
    assert (await client.get("/api/orders/o-foreign")).json() == state | {"total": 900}


@pytest.mark.parametrize("value", [5, {"status": "eaten"}, []], ids=repr)
async def test_a_row_that_somebody_has_edited_is_said_to_be_unreadable(
    client: httpx.AsyncClient, database: Database, value: Any
) -> None:
    user_id = await sign_up(client)
    order = {"user_id": user_id, "items": [ITEM], "currency": "EUR"}
    order_id = (await client.post("/api/orders", json=order)).json()["order_id"]
    await agents_made(database, "order_states", order_id, value)
    await agents_made(database, "carts", user_id, value)
    for path, what in (
        (f"/api/orders/{order_id}", f"order {order_id}"),
        (f"/api/users/{user_id}/cart", f"cart {user_id}"),
    ):
        answer = await client.get(path)
        assert answer.status_code == 503
        assert f"the state of {what} cannot be read now" in answer.text
    page, status = await client.get("/"), (await client.get("/api/status")).json()
    assert page.status_code == 200
    assert "unreadable" in page.text
    assert [each["status"] for each in status["orders"]] == ["unreadable"]


async def test_notifications_of_a_user_come_newest_first(
    client: httpx.AsyncClient, database: Database
) -> None:
    user_id = await sign_up(client)
    assert (await client.get(f"/api/notifications?user_id={user_id}")).json() == {
        "notifications": [],
        "next": None,
    }
    for number, owner in enumerate([user_id, "another", user_id]):
        row = {"notification_id": f"n-{number}", "user_id": owner, "kind": "welcome"}
        row |= {"status": "sent", "updated_at": "2030-01-01T00:00:00Z"}
        await agents_made(database, "notifications", f"n-{number}", row)
    found = (await client.get(f"/api/notifications?user_id={user_id}")).json()["notifications"]
    assert [row["notification_id"] for row in found] == ["n-2", "n-0"]


async def test_notifications_come_in_pages_that_miss_none(
    client: httpx.AsyncClient, database: Database
) -> None:
    written = [f"n-{number:03}" for number in range(7)]
    for name in written:
        row = {"notification_id": name, "user_id": "u-foreign", "kind": "welcome"}
        row |= {"status": "sent", "updated_at": "2030-01-01T00:00:00Z"}
        await agents_made(database, "notifications", name, row)
    # As rows of one commit have it.
    await database.pool.execute("UPDATE notifications SET updated_at = '2030-01-01Z'")
    found, query = [], {"user_id": "u-foreign", "limit": "3"}
    while True:
        page = (await client.get("/api/notifications", params=query)).json()
        found.append([row["notification_id"] for row in page["notifications"]])
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert found == [written[:3:-1], written[3:0:-1], written[:1]]


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "x"},
        {"after": "x"},
        {"after": "é"},
        {"after": "OTk5OTk5OTk5OTk5OTk5OTk5L24"},
        {"after": "MS9hAGI"},
        {"after": "x" * 1000},
    ],
)
async def test_a_page_that_is_none_is_refused(
    client: httpx.AsyncClient, query: dict[str, str]
) -> None:
    answer = await client.get("/api/notifications", params={"user_id": "u-1", **query})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", next(iter(query))]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/users/nobody", None),
        ("GET", "/api/users/nobody/cart", None),
        ("PUT", "/api/users/nobody/cart", {"items": []}),
        ("POST", "/api/orders", {"user_id": "nobody", "items": [ITEM], "currency": "EUR"}),
        ("GET", "/api/orders/nothing", None),
        ("GET", "/api/notifications?user_id=nobody", None),
    ],
)
async def test_an_unknown_id_is_not_found(
    client: httpx.AsyncClient, database: Database, method: str, path: str, body: Any
) -> None:
    answer = await client.request(method, path, json=body)
    assert answer.status_code == 404
    assert "has the id no" in answer.json()["detail"]
    assert await published(database) == []


# -- what does not fit -----------------------------------------------------------------------

CART, ORDER, USER = ("PUT", "/api/users/u/cart"), ("POST", "/api/orders"), ("POST", "/api/users")
FINE = {"user_id": "u", "items": [ITEM], "currency": "EUR"}


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        (USER, {"email": "ann", "name": "Ann"}, ["body", "email"]),
        (USER, {"name": "Ann"}, ["body", "email"]),
        (USER, ANN | {"nickname": "A"}, ["body", "nickname"]),
        (USER, ANN | {"name": "a\0b"}, ["body", "name"]),
        (USER, ANN | {"name": ""}, ["body", "name"]),
        (USER, ANN | {"name": 7}, ["body", "name"]),
        (USER, [], ["body"]),
        (ORDER, FINE | {"items": []}, ["body", "items"]),
        (ORDER, FINE | {"items": [ITEM] * 101}, ["body", "items"]),
        (ORDER, FINE | {"items": [ITEM | {"quantity": 0}]}, ["body", "items", 0, "quantity"]),
        (ORDER, FINE | {"items": [ITEM | {"quantity": "2"}]}, ["body", "items", 0, "quantity"]),
        (ORDER, FINE | {"items": [ITEM | {"quantity": 1.5}]}, ["body", "items", 0, "quantity"]),
        (ORDER, FINE | {"items": [ITEM | {"quantity": True}]}, ["body", "items", 0, "quantity"]),
        (ORDER, FINE | {"items": [ITEM | {"unit_price": -1}]}, ["body", "items", 0, "unit_price"]),
        (ORDER, FINE | {"items": [ITEM | {"sku": "a\0"}]}, ["body", "items", 0, "sku"]),
        (ORDER, FINE | {"currency": "eur"}, ["body", "currency"]),
        (ORDER, FINE | {"currency": "EURO"}, ["body", "currency"]),
        (CART, {"items": "tea"}, ["body", "items"]),
    ],
)
async def test_what_does_not_fit_is_refused_and_the_field_named(
    client: httpx.AsyncClient,
    database: Database,
    route: tuple[str, str],
    body: Any,
    field: list[Any],
) -> None:
    answer = await client.request(*route, json=body)
    assert answer.status_code == 422
    assert [each["loc"] for each in answer.json()["detail"]] == [field]
    assert await published(database) == []


@pytest.mark.parametrize(
    "content",
    [
        b'{"email": "ann@example.org", "name": "\\ud800"}',
        b'{"email": "ann@example.org", "name": "Ann", "\\ud800": 1}',
        b'{"email": "ann@example.org", "name": "\\u0000"}',
        b'{"email": "ann@example.org", "name": "\xff"}',
        b'{"email": NaN, "name": "Ann"}',
        b"not json",
        b"",
        b"[" * 50_000,
    ],
)
async def test_no_body_is_answered_with_500(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post(
        "/api/users", content=content, headers={"Content-Type": "application/json"}
    )
    assert 400 <= answer.status_code < 500


async def test_a_body_that_is_not_called_json_is_told_so(client: httpx.AsyncClient) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post("/api/users", content=json.dumps(ANN), headers=form)
    assert answer.status_code == 422
    [complaint] = answer.json()["detail"]
    assert complaint["loc"] == ["header", "content-type"]
    assert "Content-Type: application/json" in complaint["msg"]


@pytest.mark.parametrize("path", ["/api/users/%00", "/api/orders/%FF%00", "/mails/0", "/mails/x"])
async def test_no_path_is_answered_with_500(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 422


async def test_a_body_has_its_limit(client: httpx.AsyncClient) -> None:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 1000 + 1):
            yield b" " * 1000

    for content in (b" " * (MAX_BODY_BYTES + 1), drip()):
        answer = await client.post("/api/users", content=content)
        assert answer.status_code == 413


# -- correlation -----------------------------------------------------------------------------


async def test_the_correlation_id_is_returned_and_travels_with_the_event(
    client: httpx.AsyncClient, database: Database
) -> None:
    headers = {"X-Correlation-ID": "c 1", "traceparent": TRACE}
    answer = await client.post("/api/users", json=ANN, headers=headers)
    assert answer.headers["X-Correlation-ID"] == "c 1"
    ((_, _, message),) = await published(database)
    assert message.envelope.correlation_id == "c 1"
    assert message.envelope.traceparent.split("-")[1] == TRACE.split("-")[1]
    assert message.envelope.traceparent != TRACE


async def test_a_correlation_id_is_made_where_none_is_given(
    client: httpx.AsyncClient, database: Database
) -> None:
    answer = await client.post("/api/users", json=ANN)
    ((_, _, message),) = await published(database)
    assert message.envelope.correlation_id == answer.headers["X-Correlation-ID"]
    for path in ("/api/users/nobody", "/nowhere", "/health/live", "/"):
        assert (await client.get(path)).headers["X-Correlation-ID"]


@pytest.mark.parametrize("given", ["", " ", "x" * 129, "tab\there", b"\xe4"])
async def test_an_unusable_correlation_id_is_refused(
    client: httpx.AsyncClient, database: Database, given: str | bytes
) -> None:
    headers: dict[Any, Any] = {"X-Correlation-ID": given}
    answer = await client.post("/api/users", json=ANN, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["header", "X-Correlation-ID"]
    assert answer.headers["X-Correlation-ID"].isprintable()
    assert await published(database) == []


async def test_what_nobody_expected_is_answered_with_the_correlation_id(
    client: httpx.AsyncClient, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await database.pool.execute("ALTER TABLE users RENAME COLUMN name TO nom")
    answer = await client.post("/api/users", json=ANN, headers={"X-Correlation-ID": "c-500"})
    assert answer.status_code == 500
    assert answer.headers["X-Correlation-ID"] == "c-500"
    assert "nom" not in answer.text
    assert "c-500" in caplog.text


# -- idempotency -----------------------------------------------------------------------------


async def test_a_repeated_key_gets_the_first_answer(
    client: httpx.AsyncClient, database: Database
) -> None:
    user_id = await sign_up(client)
    first = await place(client, user_id, **{"Idempotency-Key": "k-1"})
    again = await place(client, user_id, **{"Idempotency-Key": "k-1"})
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(await published(database)) == 2
    other = await place(client, user_id, **{"Idempotency-Key": "k-2"})
    assert other.json()["order_id"] != first.json()["order_id"]


async def test_spacing_does_not_make_another_request(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    bodies = (orjson.dumps(ANN), orjson.dumps(ANN, option=orjson.OPT_INDENT_2))
    answers = [await client.post("/api/users", content=body, headers=headers) for body in bodies]
    assert answers[0].json() == answers[1].json()


async def test_a_key_with_another_request_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k-1"}
    await client.post("/api/users", json=ANN, headers=headers)
    answer = await client.post("/api/users", json=ANN | {"name": "Bob"}, headers=headers)
    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json()["detail"]


async def test_a_refusal_is_repeated_too(client: httpx.AsyncClient) -> None:
    await sign_up(client)
    headers = {"Idempotency-Key": "k-1"}
    answers = [await client.post("/api/users", json=ANN, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [409, 409]
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true"]


async def test_the_same_key_many_times_at_once_is_carried_out_once(
    client: httpx.AsyncClient, database: Database
) -> None:
    user_id = await sign_up(client)
    answers = await asyncio.gather(
        *(place(client, user_id, **{"Idempotency-Key": "k-1"}) for _ in range(8))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["order_id"] for answer in answers}) == 1
    assert await database.pool.fetchval("SELECT count(*) FROM orders") == 1
    assert len(await published(database)) == 2


async def test_a_request_that_failed_leaves_its_key_free(
    client: httpx.AsyncClient, database: Database
) -> None:
    headers = {"Idempotency-Key": "k-1"}
    await database.pool.execute("ALTER TABLE users RENAME COLUMN name TO nom")
    assert (await client.post("/api/users", json=ANN, headers=headers)).status_code == 500
    await database.pool.execute("ALTER TABLE users RENAME COLUMN nom TO name")
    answer = await client.post("/api/users", json=ANN, headers=headers)
    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer.headers


async def test_answers_are_forgotten_after_a_day(
    client: httpx.AsyncClient, database: Database
) -> None:
    user_id = await sign_up(client)
    for key in ("k-1", "k-2"):
        await place(client, user_id, **{"Idempotency-Key": key})
    await database.pool.execute(
        "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'"
    )
    answer = await place(client, user_id, **{"Idempotency-Key": "k-1"})
    assert "Idempotent-Replayed" not in answer.headers
    assert await database.pool.fetchval("SELECT array_agg(key) FROM idempotency_keys") == ["k-1"]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_an_unusable_key_is_refused(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post("/api/users", json=ANN, headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["header", "idempotency-key"]


# -- status, health, metrics -----------------------------------------------------------------


def worker(owns: list[list[Any]]) -> Heartbeat:
    agent = {"name": "orders", "topics": ["orders"], "processed": 5, "failed": 1}
    info = {"pid": 7, "host": "here", "started_at": datetime.now(UTC).isoformat(), "web": None}
    return Heartbeat(1, info=info | {"owns": owns, "agents": [agent]})


async def something_to_show(database: Database, broker: MemoryBroker) -> int:
    """A worker with a spare, an entry that waits, a mail and a dead letter, whose number is
    returned."""
    await broker.create_topic(TopicSpec("orders", 2))
    await broker.join("shop", ["orders"], from_start=True)
    await broker.append([Outgoing("orders", b"{}", partition=1)])
    await broker.heartbeat("shop", "w-1", worker([["orders", 0], ["orders", 1]]))
    await broker.heartbeat("shop", "w-2", worker([]))
    await keep(
        database, [ReceivedMail("<m-1>", "shop@x", ("ann@example.org",), "Hi", "a\0b\udcff")]
    )
    await keep(database, [ReceivedMail("<m-1>", "shop@x", ("ann@example.org",), "Hi", "twice")])
    return await DeadLetters(database).add(
        NewDeadLetter(
            app="shop",
            agent="orders",
            topic="orders",
            partition=1,
            position=4,
            key=b"o-1",
            value=b'{"password": "hunter2", "email": "ann@example.org"}',
            headers=(("correlation_id", b"c-1"),),
            error=ValueError("<script>alert(1)</script>"),
            attempts=1,
        )
    )


async def parked(database: Database, app: str, *topics: str) -> None:
    """An event of each topic that waits for another attempt."""
    await database.pool.execute(
        """
        INSERT INTO redfaust.parked
            (app, agent, topic, partition, position, timestamp, headers, attempts, due_at)
        SELECT $1, topic, topic, 0, 0, 0, '[]', 1, now() FROM unnest($2::text[]) AS topic
        """,
        app,
        topics,
    )


async def test_the_status_tells_of_events_that_wait_for_another_attempt(
    client: httpx.AsyncClient, database: Database
) -> None:
    assert (await client.get("/api/status")).json()["parked"] == {"waiting": 0, "topics": {}}
    await parked(database, "shop", "orders", "users", "orders")
    await parked(database, "another", "orders")
    status = (await client.get("/api/status")).json()
    assert status["parked"] == {"waiting": 3, "topics": {"orders": 2, "users": 1}}
    assert "3 events wait for another attempt: orders 2, users 1." in (await client.get("/")).text
    metrics = (await client.get("/metrics")).text.splitlines()
    assert 'redfaust_parked_events{topic="orders"} 2.0' in metrics
    lines = render(Status.model_validate(status)).splitlines()
    heading = lines.index("For another attempt: 3 waiting")
    assert lines[heading + 1 : heading + 4] == [
        "  topic   events",
        "  orders       2",
        "  users        1",
    ]


async def test_the_status_tells_what_is_going_on(
    client: httpx.AsyncClient, database: Database, broker: MemoryBroker
) -> None:
    number = await something_to_show(database, broker)
    await place(client, await sign_up(client))
    answer = await client.get("/api/status")
    assert answer.status_code == 200
    status = answer.json()
    assert [problem["kind"] for problem in status["problems"]] == ["dead_letters"]
    assert [(each["name"], len(each["owns"])) for each in status["workers"]] == [
        ("w-1", 2),
        ("w-2", 0),
    ]
    (agent,) = status["agents"]
    assert (agent["workers"], agent["processed"], agent["failed"]) == (2, 10, 2)
    (topic,) = status["topics"]
    assert topic["partitions"][1] == {
        "partition": 1,
        "length": 1,
        "lag": 1,
        "oldest_age_seconds": topic["partitions"][1]["oldest_age_seconds"],
        "pending": 0,
        "position": "0",
        "owner": "w-1",
        "held_by": [],
    }
    assert status["outbox"]["depth"] == 2
    assert status["outbox"]["oldest_age_seconds"] >= 0
    assert status["dead_letters"]["waiting"] == 1
    (letter,) = status["dead_letters"]["latest"]
    assert (letter["id"], letter["correlation_id"]) == (number, "c-1")
    assert "hunter2" not in answer.text
    assert [mail["subject"] for mail in status["mails"]] == ["Hi"]
    assert [order["status"] for order in status["orders"]] == ["placed"]


async def test_the_status_does_without_the_broker(settings: Settings, services: Services) -> None:
    alone = Services(services.database, services.outbox, None)
    transport = httpx.ASGITransport(create_web(settings, alone, bound_to=["127.0.0.1"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        status = (await client.get("/api/status")).json()
        page = await client.get("/")
        metrics = (await client.get("/metrics")).text
    assert (status["topics"], status["outbox"]["depth"]) == (None, 0)
    [problem] = status["problems"]
    assert problem["kind"] == "broker_down"
    assert "this process is not connected to the broker" in problem["text"]
    assert page.status_code == 200
    assert "not connected to the broker" in page.text
    assert "redfaust_broker_up 0.0" in metrics
    assert "redfaust_database_up 1.0" in metrics


async def test_without_the_database_everything_is_answered(
    client: httpx.AsyncClient, services: Services, broker: MemoryBroker
) -> None:
    await broker.heartbeat("shop", "w-1", worker([]))
    await services.database.close()
    status = (await client.get("/api/status")).json()
    assert (status["outbox"], len(status["workers"]), len(status["problems"])) == (None, 1, 1)
    assert (await client.get("/")).status_code == 200
    assert (await client.get("/health/live")).status_code == 200
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["the database cannot be reached"])
    answer = await client.post("/api/users", json=ANN)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


async def test_ready_takes_a_worker(client: httpx.AsyncClient, broker: MemoryBroker) -> None:
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["no worker is running"])
    await broker.heartbeat("shop", "w-1", worker([]))
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")


async def test_a_worker_of_another_release_is_a_problem_and_no_error(
    client: httpx.AsyncClient, broker: MemoryBroker
) -> None:
    await broker.heartbeat("shop", "w-9", Heartbeat(1, info={"pid": "seven"}))
    status = (await client.get("/api/status")).json()
    assert status["workers"] == []
    [problem] = status["problems"]
    assert problem["kind"] == "worker_unreadable"
    assert "w-9" in problem["text"]


async def test_metrics_are_in_prometheus_form(
    client: httpx.AsyncClient, database: Database, broker: MemoryBroker
) -> None:
    await something_to_show(database, broker)
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    for line in (
        'redfaust_partition_lag{partition="1",topic="orders"} 1.0',
        'redfaust_agent_events_total{agent="orders",worker="w-1"} 5.0',
        "redfaust_workers 2.0",
        "redfaust_outbox_depth 0.0",
        "redfaust_dead_letters_waiting 1.0",
    ):
        assert line in answer.text.splitlines()


async def test_the_pages_show_it_and_nothing_secret(
    client: httpx.AsyncClient, database: Database, broker: MemoryBroker
) -> None:
    number = await something_to_show(database, broker)
    for path in ("/", "/fragments/status"):
        page = await client.get(path)
        assert page.status_code == 200
        for text in (
            "w-1",
            "spare",
            "<bdi>orders</bdi> 0–1",
            "ann@example.org",
            f"/dead-letters/{number}",
        ):
            assert text in page.text
    letter = (await client.get(f"/dead-letters/{number}")).text
    assert f"redfaust dead-letters replay {number}" in letter
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in letter
    assert "<script>alert" not in letter
    assert "hunter2" not in letter
    mail_id = await database.pool.fetchval("SELECT id FROM mailbox")
    mail = (await client.get(f"/mails/{mail_id}")).text
    assert "a�b" in mail
    for missing in ("/dead-letters/999", "/mails/999"):
        assert (await client.get(missing)).status_code == 404


async def test_the_api_describes_itself_without_other_servers(client: httpx.AsyncClient) -> None:
    docs = await client.get("/docs")
    assert docs.status_code == 200
    assert "https://" not in docs.text
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/api/users", "/api/orders/{order_id}", "/api/notifications"} <= paths.keys()


async def test_a_right_that_the_web_api_lacks_is_named(
    client: httpx.AsyncClient, database: Database
) -> None:
    await database.pool.execute("REVOKE INSERT ON redfaust.outbox FROM redfaust_web")
    answer = await client.post("/api/users", json=ANN)
    assert answer.status_code == 503
    assert "permission denied for table outbox" in answer.json()["detail"]
    ready = await client.get("/health/ready")
    assert "may_not_publish" in ready.json()["problems"]
