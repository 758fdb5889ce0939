"""State is changed exactly once by each event, whenever the worker is killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable

import asyncpg
import orjson
import redis.asyncio

from connectors.postgres.database import Database
from connectors.transports.broker import Outgoing, TopicSpec
from connectors.transports.brokers import broker_by_url
from connectors.transports.redis import keys
from tests.integration.faust_apps import eventually

SEED = 20
KILLS = 6
EVENTS = 3_000
LAST = 50
"""Events that are left to the worker that is not killed."""
ACCOUNTS = 40


async def test_killed_again_and_again_it_books_each_event_once(
    empty_valkey_url: str, database_url: str
) -> None:
    broker_url = empty_valkey_url
    choose = random.Random(SEED)
    bookings = [
        {"number": n, "amount": choose.randrange(1, 100), "refuse": choose.random() < 0.02}
        for n in range(EVENTS)
    ]
    accounts = [f"account-{choose.randrange(ACCOUNTS)}" for _ in bookings]
    broker = broker_by_url(broker_url, default_partitions=4)
    await broker.open()
    await broker.create_topic(TopicSpec("bookings", 4))
    entries = [
        Outgoing("bookings", orjson.dumps(booking), account.encode())
        for account, booking in zip(accounts, bookings, strict=True)
    ]
    for start in range(0, EVENTS - LAST, 500):
        await broker.append(entries[start : min(start + 500, EVENTS - LAST)])

    async def lag() -> int:
        return sum(partition.lag for partition in await broker.status("ledger", "bookings"))

    for kill in range(KILLS, 0, -1):
        target = EVENTS * (kill - 1) // KILLS + choose.randrange(EVENTS // KILLS)
        worker = _start(broker_url, database_url)
        await eventually(lambda: _below(lag, target))  # noqa: B023 - awaited here
        worker.kill()
        worker.wait()
        await _forget_the_dead(broker_url)
    worker = _start(broker_url, database_url)
    await broker.append(entries[-LAST:])
    try:
        await eventually(lambda: _below(lag, 0))
        await eventually(lambda: _nothing_parked(database_url))
    finally:
        worker.terminate()
        assert worker.wait(20) == 0
        await broker.close()

    balances: Counter[str] = Counter()
    journal = defaultdict(list)
    refused = []
    for account, booking in zip(accounts, bookings, strict=True):
        if booking["refuse"]:
            refused.append(booking["number"])
        else:
            balances[account] += booking["amount"]
            journal[account].append(booking["number"])
    database = await Database.connect(database_url)
    rows = await database.pool.fetch("SELECT key, value FROM ledger.balances")
    assert {row["key"]: row["value"] for row in rows} == balances
    rows = await database.pool.fetch("SELECT key, value FROM ledger.journal")
    assert {row["key"]: row["value"] for row in rows} == journal
    rows = await database.pool.fetch("SELECT agent, value FROM redfaust.dead_letters")
    buried = sorted((row["agent"], orjson.loads(row["value"])["number"]) for row in rows)
    assert buried == sorted((agent, n) for agent in ("balances", "journal") for n in refused)
    await database.close()


async def _below(lag: Callable[[], Awaitable[int]], target: int) -> bool:
    return await lag() <= target


async def _nothing_parked(database_url: str) -> bool:
    connection = await asyncpg.connect(database_url)
    try:
        return not await connection.fetchval("SELECT EXISTS (SELECT FROM redfaust.parked)")
    finally:
        await connection.close()


def _start(broker_url: str, database_url: str) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "LEDGER_BROKER": broker_url, "LEDGER_STORE": database_url}
    return subprocess.Popen([sys.executable, "-m", "tests.e2e.ledger_worker"], env=environ)


async def _forget_the_dead(broker_url: str) -> None:
    """A dead worker's lease would be waited for; here it is known that it is dead."""
    client = redis.asyncio.Redis.from_url(broker_url)
    await client.delete(keys.lease("ledger"))
    await client.aclose()
