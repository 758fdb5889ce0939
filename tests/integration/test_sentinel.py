"""A primary found by Sentinels, and found again after they have named another one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel

from app.embedded.process import free_port
from redfaust.brokers.broker import Outgoing
from redfaust.brokers.redis import RedisBroker
from redfaust.brokers.url import BrokerUrl
from redfaust.errors import BrokerError, BrokerUnavailable
from redfaust.postgres.database import Database
from tests.conftest import REDIS_SERVER
from tests.integration.faust_apps import PATIENCE, new_app, running
from tests.integration.outbox_streams import eventually, publishing
from tests.integration.redis_pair import Pair, running_pair
from tests.integration.test_failover import (
    Sender,
    database,
    each_is_there_once_and_in_order,
    everything_is_published,
    quickly,
    relaying,
    values,
)
from tests.redis_sentinel import SENTINEL, RunningSentinel, running_sentinel

__all__ = ["database", "quickly"]

pytestmark = pytest.mark.skipif(SENTINEL is None, reason="Debian's redis-sentinel is missing")


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redfaust.brokers.redis.sentinel.LOOK_EVERY", 0.1)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    if REDIS_SERVER is None:
        pytest.skip("Debian's redis-server is not installed")
    async with running_pair(tmp_path, Path(REDIS_SERVER)) as pair:
        yield pair


@pytest.fixture
async def sentinel(pair: Pair, tmp_path: Path) -> AsyncIterator[RunningSentinel]:
    """It reaches the first through the proxy for peers, and sends clients there."""
    async with Redis.from_url(pair.second.url) as second:
        await second.config_set("replica-announce-ip", "127.0.0.1")
        await second.config_set("replica-announce-port", pair.second.port)
    async with running_sentinel(tmp_path, pair.peers.port, pair.password, replicas=1) as sentinel:
        yield sentinel


@pytest.fixture
async def broker(sentinel: RunningSentinel) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(sentinel.url, default_partitions=1)
    await broker.open()
    yield broker
    await broker.close()


async def test_a_primary_that_is_cut_off_loses_its_clients_to_the_one_that_replaced_it(
    database: Database, broker: RedisBroker, pair: Pair, sentinel: RunningSentinel
) -> None:
    sender = Sender(database, broker)
    await sender.take_over()
    async with relaying(database, broker), publishing(sender.publisher):
        await sender.send(20)
        await cut_off_from_all_but_clients(pair)

        async def has_decided() -> bool:
            await sender.send()  # to the primary that nobody else sees
            return await sentinel.primary() == ("127.0.0.1", pair.second.port)

        await eventually(has_decided)
        await sender.send(20)
        await everything_is_published(database)
        await each_is_there_once_and_in_order(pair.second.url, sender.sent)
    lost = await values(pair.first.url)
    assert all(len(of_key) > 20 for of_key in lost.values()), "this would prove nothing"


async def test_what_a_process_asks_it_asks_of_one_server(
    pair: Pair,
    sentinel: RunningSentinel,
    broker: RedisBroker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("redfaust.brokers.redis.sentinel.LOOK_EVERY", 3600.0)
    before = await broker.incarnation()
    await asyncio.sleep(0.2)  # what has looked before looks no more
    await cut_off_from_all_but_clients(pair)

    async def clients_are_sent_to_the_second() -> bool:
        masters: Any = await asking.sentinel_masters()
        return bool(masters["pair"]["port"] == pair.second.port)

    async with Redis(port=sentinel.port, protocol=2) as asking:
        await eventually(clients_are_sent_to_the_second)
    assert await broker.incarnation() == before, "this would prove nothing"
    # One on the connection that is there, and the other one on a new one.
    await asyncio.gather(broker.incarnation(), broker.incarnation(), return_exceptions=True)
    first, second = await asyncio.gather(broker.incarnation(), broker.incarnation())
    assert first == second != before


async def test_a_cancellation_that_redis_py_swallows_does_not_keep_a_broker_from_closing(
    sentinel: RunningSentinel, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = asyncio.Event()

    async def look(of: Sentinel, name: str) -> tuple[str, int]:
        looking.set()
        with suppress(asyncio.CancelledError):  # as asyncio.wait_for does before Python 3.12
            await asyncio.Event().wait()
        return await sentinel.primary()

    broker = RedisBroker(sentinel.url, default_partitions=1)
    await broker.open()
    monkeypatch.setattr(Sentinel, "discover_master", look)
    await asyncio.wait_for(looking.wait(), PATIENCE)
    async with asyncio.timeout(PATIENCE):
        await broker.close()


async def cut_off_from_all_but_clients(pair: Pair) -> None:
    pair.peers.shut()
    async with Redis.from_url(pair.first.url) as first:
        for client in await first.client_list():
            if client["name"].startswith("sentinel-") or "S" in client["flags"]:
                await first.client_kill_filter(_id=client["id"])


async def test_an_application_goes_on_with_the_replica_of_a_primary_that_died(
    pair: Pair, sentinel: RunningSentinel, database_url: str
) -> None:
    app = new_app(sentinel.url, database_url)
    numbers = app.topic("numbers", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=list, default=list)

    @app.agent(numbers)
    async def add(stream: Any) -> None:
        async for key, number in stream.items():
            sums[key] = [*sums[key], number]

    async def send(some: range) -> None:
        for number in some:
            await numbers.send(key=str(number % 4), value=number)

    async def all_applied(count: int) -> bool:
        rows = await connection.fetch("SELECT value FROM test.sums")
        return sum(len(json.loads(row["value"])) for row in rows) == count

    connection = await asyncpg.connect(database_url)
    async with running(app):
        await send(range(200))
        await eventually(lambda: all_applied(200))
        pair.first.server.process.kill()
        await pair.first.server.process.wait()
        pair.peers.lead_to(None)
        await send(range(200, 400))
        await eventually(lambda: all_applied(400))
    rows = await connection.fetch("SELECT key, value FROM test.sums")
    await connection.close()
    assert {row["key"]: json.loads(row["value"]) for row in rows} == {
        str(key): list(range(key, 400, 4)) for key in range(4)
    }


async def test_nobody_needs_sentinels_while_the_primary_stays(
    pair: Pair, sentinel: RunningSentinel, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_vain = asyncio.Event()
    discover = Sentinel.discover_master

    async def look(of: Sentinel, name: str) -> Any:
        try:
            return await discover(of, name)
        except MasterNotFoundError:
            in_vain.set()
            raise

    monkeypatch.setattr(Sentinel, "discover_master", look)
    await broker.append([Outgoing("events", b"1")])
    await sentinel.server.stop()
    await asyncio.wait_for(in_vain.wait(), PATIENCE)
    await broker.append([Outgoing("events", b"2")])
    assert list((await values(pair.first.url)).values()) == [[1, 2]]


async def test_a_primary_of_another_name_is_an_error_that_names_what_there_is(
    sentinel_url: str,
) -> None:
    with pytest.raises(BrokerError, match=r"no primary of this name, but pair: correct it"):
        await open_and_close(sentinel_url.replace("/pair", "/mymaster"))


async def test_a_server_that_is_no_sentinel_is_an_error(valkey_url: str) -> None:
    url = valkey_url.replace("redis://", "redis+sentinel://").replace("/0", "/pair")
    with pytest.raises(BrokerError, match=r"no Sentinel|another password"):
        await open_and_close(url)


async def test_a_sentinel_is_no_broker_by_itself(sentinel_url: str) -> None:
    [host] = BrokerUrl.parse(sentinel_url).hosts
    with pytest.raises(BrokerError, match=r"is a Sentinel: write redis\+sentinel://"):
        await open_and_close(f"redis://{host}")


async def test_sentinels_that_do_not_answer_are_waited_for() -> None:
    with pytest.raises(BrokerUnavailable, match=r"names a primary: are they running") as raised:
        await open_and_close(f"redis+sentinel://127.0.0.1:{free_port()}/pair")
    assert "<" not in str(raised.value)


async def open_and_close(url: str) -> None:
    broker = RedisBroker(url, default_partitions=1)
    try:
        await broker.open()
    finally:
        await broker.close()
