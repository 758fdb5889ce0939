"""The whole shop on a broker that speaks Kafka's protocol."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.e2e.shop_processes import ShopProcesses, eventually, running_shop

pytestmark = pytest.mark.long


def is_confirmed(shop: ShopProcesses, order_id: str) -> bool:
    return shop.status_of(order_id) == "confirmed"


def test_an_order_is_confirmed_once_though_worker_and_relay_are_killed(
    empty_kafka_url: str, database_url: str
) -> None:
    with running_shop(empty_kafka_url, database_url) as shop:
        user_id = shop.new_user()
        orders = [shop.new_order(user_id) for _ in range(10)]
        for name in ("worker", "relay"):
            shop.kill(name)
        orders += [shop.new_order(user_id) for _ in range(10)]
        for name in ("worker", "relay"):
            shop.start(name)
        for order_id in orders:
            eventually(partial(is_confirmed, shop, order_id))
            history = shop.client.get(f"/api/orders/{order_id}").json()["history"]
            assert [change["status"] for change in history] == ["placed", "confirmed"]
        # It may have noticed by now that the worker and the relay were lost.
        status = json.loads(shop.run("status", "--json", codes=(0, 1)))
        assert {topic["name"] for topic in status["topics"]} >= {"orders", "users"}
        assert len(status["workers"]) >= 1
        assert "worker" in shop.run("workers")
        assert shop.client.get("/").status_code == 200
