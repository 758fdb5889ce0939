"""The shop as its users meet it: over HTTP, Redis, SQL and the command line."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.shop_processes import ShopProcesses, eventually, running_shop
from tests.rights import as_administrator


@pytest.fixture(scope="module")
def shop(valkey_url: str, module_database_url: str) -> Iterator[ShopProcesses]:
    """One shop for all tests of this module; they use users of their own."""
    with redis.Redis.from_url(as_administrator(valkey_url)) as client:
        client.flushall()
    with running_shop(valkey_url, module_database_url) as running:
        yield running


def correlation_ids(shop: ShopProcesses, text: str) -> set[str]:
    """Of every event on any stream whose value or key mentions a text."""
    found = set()
    for stream in shop.redis.scan_iter("{*}", _type="stream"):
        entries: Any = shop.redis.xrange(stream)
        for _, fields in entries:
            if any(text.encode() in fields.get(name, b"") for name in (b"_k", b"_v")):
                found.add(fields[b"_h:correlation_id"].decode())
    return found


def test_an_order_is_confirmed_its_cart_emptied_and_its_mail_sent(shop: ShopProcesses) -> None:
    correlation_id = f"test-{uuid.uuid4()}"
    user_id = shop.new_user(**{"X-Correlation-ID": correlation_id})
    items = [{"sku": "tea", "quantity": 1, "unit_price": 450}]
    answer = shop.client.put(
        f"/api/users/{user_id}/cart",
        json={"items": items},
        headers={"X-Correlation-ID": correlation_id},
    )
    assert answer.status_code == 202, answer.text
    eventually(lambda: shop.client.get(f"/api/users/{user_id}").json()["cart"]["items"])
    order_id = shop.new_order(user_id, **{"X-Correlation-ID": correlation_id})

    eventually(lambda: shop.status_of(order_id) == "confirmed")
    history = shop.client.get(f"/api/orders/{order_id}").json()["history"]
    assert [change["status"] for change in history] == ["placed", "confirmed"]
    eventually(lambda: not shop.client.get(f"/api/users/{user_id}").json()["cart"]["items"])
    eventually(
        lambda: (
            {"welcome", "order_confirmed"}
            == {n["kind"] for n in sent_notifications(shop, user_id) if n["status"] == "sent"}
        )
    )
    mails = shop.sql(
        "SELECT subject FROM mailbox JOIN users ON recipient = email WHERE user_id = $1", user_id
    )
    assert len(mails) == 2
    assert correlation_ids(shop, order_id) == {correlation_id}
    assert correlation_ids(shop, user_id) == {correlation_id}


def sent_notifications(shop: ShopProcesses, user_id: str) -> list[dict[str, str]]:
    answer = shop.client.get("/api/notifications", params={"user_id": user_id}).json()
    notifications: list[dict[str, str]] = (
        answer["notifications"] if isinstance(answer, dict) else answer
    )
    return notifications


def test_a_bare_entry_of_a_foreign_producer_is_an_order(shop: ShopProcesses) -> None:
    user_id, order_id = shop.new_user(), f"o-{uuid.uuid4()}"
    items = json.dumps([{"sku": "tea", "quantity": 1, "unit_price": 450}])
    for partition in range(2):  # at least one of them is not the order's own
        shop.redis.xadd(
            f"{{orders:{partition}}}",
            {
                "type": "OrderCreated",
                "order_id": f"{order_id}-{partition}",
                "user_id": user_id,
                "items": items,
                "currency": "EUR",
            },
        )
    for partition in range(2):
        eventually(lambda: shop.status_of(f"{order_id}-{partition}") == "confirmed")  # noqa: B023


def test_garbage_is_set_aside_shown_and_replayed_after_a_fix(
    shop: ShopProcesses, tmp_path: Path
) -> None:
    user_id, order_id = shop.new_user(), f"o-{uuid.uuid4()}"
    garbage = f"not json {order_id}"
    shop.redis.xadd("{orders:0}", {"_v": garbage})
    letter = eventually(lambda: _letter_about(shop, garbage))
    shown = shop.run("dead-letters", "show", str(letter))
    assert "not json" in shown
    fixed = {
        "type": "OrderCreated",
        "order_id": order_id,
        "user_id": user_id,
        "items": [{"sku": "tea", "quantity": 1, "unit_price": 450}],
        "currency": "EUR",
    }
    corrected = tmp_path / "corrected.json"
    corrected.write_text(json.dumps(fixed))
    shop.run("dead-letters", "replay", str(letter), "--value", str(corrected))
    eventually(lambda: shop.status_of(order_id) == "confirmed")


def _letter_about(shop: ShopProcesses, value: str) -> int | None:
    rows = shop.sql("SELECT id FROM redfaust.dead_letters WHERE value = $1", value.encode())
    return int(rows[0]["id"]) if rows else None


def test_a_row_of_a_plain_transaction_reaches_its_agent_unless_rolled_back(
    shop: ShopProcesses,
) -> None:
    user_id = shop.new_user()
    committed, rolled_back = f"o-{uuid.uuid4()}", f"o-{uuid.uuid4()}"
    publish = """
        SELECT redfaust.publish('orders', $1, jsonb_build_object(
            'type', 'OrderCreated', 'order_id', $1::text, 'user_id', $2::text, 'currency', 'EUR',
            'items', '[{"sku": "tea", "quantity": 1, "unit_price": 450}]'::jsonb))
    """
    with pytest.raises(Exception, match="division by zero"):
        shop.sql(f"WITH published AS ({publish}) SELECT 1 / 0 FROM published", rolled_back, user_id)
    shop.sql(publish, committed, user_id)
    eventually(lambda: shop.status_of(committed) == "confirmed")
    assert shop.client.get(f"/api/orders/{rolled_back}").status_code == 404


def test_a_failing_recipient_stops_nobody(shop: ShopProcesses) -> None:
    answer = shop.client.post(
        "/api/users", json={"email": f"{uuid.uuid4()}@nowhere.invalid", "name": "nobody"}
    )
    unreachable = answer.json()["user_id"]
    user_id = shop.new_user()
    eventually(
        lambda: [n for n in sent_notifications(shop, unreachable) if n["status"] == "failed"]
    )
    eventually(lambda: [n for n in sent_notifications(shop, user_id) if n["status"] == "sent"])


@pytest.mark.long
def test_a_killed_worker_loses_no_order(shop: ShopProcesses) -> None:
    user_id = shop.new_user()
    orders = [shop.new_order(user_id) for _ in range(500)]
    shop.kill("worker")
    orders += [shop.new_order(user_id) for _ in range(500)]
    shop.start("worker")
    query = """
        SELECT count(*) FROM order_states
        WHERE key = ANY ($1) AND value ->> 'status' = 'confirmed'
    """
    eventually(lambda: shop.sql(query, orders)[0]["count"] == len(orders))


def test_state_is_in_ordinary_tables(shop: ShopProcesses) -> None:
    user_id = shop.new_user()
    order_id = shop.new_order(user_id)
    eventually(lambda: shop.status_of(order_id) == "confirmed")
    assert shop.sql("SELECT 1 FROM users WHERE user_id = $1", user_id)
    assert shop.sql("SELECT 1 FROM orders WHERE order_id = $1", order_id)
    eventually(lambda: shop.sql("SELECT 1 FROM carts WHERE key = $1", user_id))
