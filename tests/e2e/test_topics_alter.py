"""``redfaust topics alter``: a shop at rest gets more partitions, and goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis

from redfaust.brokers.partitioner import partition_of
from tests.e2e.shop_processes import PATIENCE, ShopProcesses, eventually, running_shop
from tests.rights import as_administrator

pytestmark = pytest.mark.long

ALTER = ("topics", "alter", "--partitions", "8")


@pytest.fixture
def shop(valkey_url: str, module_database_url: str) -> Iterator[ShopProcesses]:
    with redis.Redis.from_url(as_administrator(valkey_url)) as client:
        client.flushall()
    with running_shop(valkey_url, module_database_url) as running:
        yield running


def alter(shop: ShopProcesses, **environ: str) -> tuple[int, str]:
    """The exit code, and what it complains about."""
    finished = subprocess.run(
        [sys.executable, "-m", "app", *ALTER],
        env=shop.environ | environ,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return finished.returncode, finished.stderr.decode()


def rests(shop: ShopProcesses) -> bool:
    [unpublished] = shop.sql("SELECT count(*) FROM redfaust.batches WHERE published_at IS NULL")
    lags = [topic["lag"] for topic in json.loads(shop.run("topics", "--json"))]
    return not unpublished["count"] and not any(lags)


def stop(shop: ShopProcesses, name: str) -> None:
    process = shop.processes.pop(name)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0


def moving_order(shop: ShopProcesses, user_id: str) -> str:
    """An order that will belong to another partition."""
    while True:
        order_id = shop.new_order(user_id)
        if partition_of(order_id.encode(), 8) >= 4:
            return order_id


def test_a_shop_at_rest_gets_more_partitions(shop: ShopProcesses) -> None:
    user_id = shop.new_user()
    before = moving_order(shop, user_id)
    eventually(lambda: shop.status_of(before) == "confirmed")
    eventually(lambda: rests(shop))
    code, error = alter(shop)
    assert (code, "Error: 1 workers run" in error) == (1, True), error

    stop(shop, "worker")
    stop(shop, "relay")
    meanwhile = moving_order(shop, user_id)
    code, error = alter(shop, FAUST_FAILPOINT="alteration.committed")
    assert code == -signal.SIGKILL, error
    said = shop.run(*ALTER)
    assert "topic orders: 4 partitions before, 8 now" in said
    assert "Set REDFAUST_PARTITIONS=8" in said
    assert shop.run(*ALTER) == "All topics have 8 partitions already.\n"

    shop.start("worker")
    shop.start("relay")
    eventually(lambda: shop.status_of(meanwhile) == "confirmed")
    publish = """
        SELECT redfaust.publish('orders', $1, jsonb_build_object(
            'type', 'OrderStatusChanged', 'order_id', $1::text, 'status', 'shipped'))
    """
    shop.sql(publish, before)
    eventually(lambda: shop.status_of(before) == "shipped")
