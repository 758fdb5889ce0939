"""A log that somebody has deleted, renamed or set back: what is appended afterwards is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import faust
import pytest
from redis.asyncio import Redis

from redfaust.postgres.database import Database
from tests.integration.faust_apps import eventually, new_app, running
from tests.rights import as_administrator

LOG = "{numbers:0}"
SHARED_LOG = "{letters:0}"
FAR = "99999999999999-0"
"""An ID that no clock reaches."""

Change = Callable[[Redis, str], Awaitable[object]]


async def delete(client: Redis, log: str) -> None:
    await client.delete(log)


async def rename(client: Redis, log: str) -> None:
    await client.rename(log, f"{log}:old")


async def set_back(client: Redis, log: str) -> None:
    """As an operator may, who takes the entry with the odd ID for the trouble."""
    await client.xtrim(log, maxlen=0, approximate=False)
    await client.execute_command("XSETID", log, "5-0")  # type: ignore[no-untyped-call]


async def empty(client: Redis, log: str) -> None:
    await client.flushdb()


WAYS = [delete, rename, set_back, empty]


@pytest.fixture
async def client(any_broker_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(as_administrator(any_broker_url)) as client:
        yield client


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redfaust.transports.log_watch.LOOK_EVERY", 0.1)
    monkeypatch.setattr("redfaust.processing.shared.delivery.TAKE_OVER_EVERY", 0.1)


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    """Where the application has its state."""
    url = "memory://" if request.param == "memory" else request.getfixturevalue("database_url")
    return str(url)


def counting(broker: str, store: str) -> tuple[faust.App, list[int]]:
    """An application that notes what it reads."""
    app, seen = new_app(broker, store, partitions=1), []
    sums = app.Table("sums", key_type=str, value_type=int, default=int)

    @app.agent(app.topic("numbers", key_type=str))
    async def add(stream: Any) -> None:
        async for key, number in stream.items():
            sums[key] += number
            seen.append(number)

    return app, seen


def delivering(broker: str, store: str) -> tuple[faust.App, list[int]]:
    """The same with shared delivery."""
    app, seen = new_app(broker, store, partitions=1), []

    @app.agent(app.topic("letters", key_type=str), name="mail", delivery="shared", concurrency=2)
    async def mail(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    return app, seen


async def add(client: Redis, log: str, number: int, entry_id: str = "*") -> None:
    await client.xadd(log, {"_v": str(number), "_k": "key"}, id=entry_id)


async def sum_in(database_url: str) -> int:
    database = await Database.connect(database_url)
    try:
        return int(await database.pool.fetchval("SELECT value FROM test.sums") or 0)
    finally:
        await database.close()


async def epoch_in(database_url: str) -> int:
    database = await Database.connect(database_url)
    try:
        return int(await database.pool.fetchval("SELECT max(epoch) FROM redfaust.positions"))
    finally:
        await database.close()


@pytest.mark.parametrize("any_broker_url", ["valkey", "cluster"], indirect=True)
@pytest.mark.parametrize("change", [delete, rename, set_back])
async def test_a_worker_that_runs_reads_another_log_from_its_beginning(
    any_broker_url: str, database_url: str, change: Change, caplog: pytest.LogCaptureFixture
) -> None:
    client = cluster_client(any_broker_url)
    app, seen = counting(any_broker_url, database_url)
    async with running(app):
        await add(client, LOG, 1)
        await add(client, LOG, 2, FAR)
        await eventually(lambda: seen == [1, 2])
        await app.consumer.commit()
        await change(client, LOG)
        await add(client, LOG, 4)
        await eventually(lambda: seen == [1, 2, 4])
        await add(client, LOG, 8)
        await eventually(lambda: seen == [1, 2, 4, 8])
    assert await sum_in(database_url) == 15
    assert await epoch_in(database_url) <= 3
    assert caplog.text.count("ends before what was read") == 1
    await client.aclose()


def cluster_client(url: str) -> Any:
    from redis.asyncio import RedisCluster  # noqa: PLC0415

    if url.startswith("redis+cluster"):
        return RedisCluster.from_url(
            as_administrator(url).replace("redis+cluster", "redis").split(",")[0]
        )
    return Redis.from_url(as_administrator(url))


async def test_a_worker_that_runs_reads_what_comes_after_everything_was_deleted(
    any_broker_url: str, database_url: str, client: Redis
) -> None:
    app, seen = counting(any_broker_url, database_url)
    async with running(app):
        await add(client, LOG, 1)
        await add(client, LOG, 2, FAR)
        await eventually(lambda: seen == [1, 2])
        await client.flushdb()
        await add(client, LOG, 4)
        await eventually(lambda: seen == [1, 2, 4])
    assert await sum_in(database_url) == 7


@pytest.mark.parametrize("change", WAYS)
async def test_a_worker_that_starts_reads_another_log_from_its_beginning(
    any_broker_url: str,
    database_url: str,
    client: Redis,
    change: Change,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, seen = counting(any_broker_url, database_url)
    async with running(app):
        await add(client, LOG, 1)
        await add(client, LOG, 2, FAR)
        await eventually(lambda: seen == [1, 2])
    await change(client, LOG)
    await add(client, LOG, 4)
    heir, seen = counting(any_broker_url, database_url)
    caplog.clear()
    async with running(heir):
        await eventually(lambda: seen == [4])
        before = await epoch_in(database_url)
        await add(client, LOG, 8)
        await eventually(lambda: seen == [4, 8])
        assert await epoch_in(database_url) == before
    assert await sum_in(database_url) == 15
    assert caplog.text.count("ends before what was read") == 1


@pytest.mark.parametrize("change", WAYS)
async def test_without_a_database_another_log_is_read_from_its_beginning_as_well(
    any_broker_url: str, client: Redis, change: Change
) -> None:
    app, seen = counting(any_broker_url, "memory://")
    async with running(app):
        await add(client, LOG, 1)
        await add(client, LOG, 2, FAR)
        await eventually(lambda: seen == [1, 2])
        await app.consumer.commit()
        await change(client, LOG)
        await add(client, LOG, 4)
        await eventually(lambda: seen[2:] == [4])


@pytest.mark.parametrize("change", WAYS)
async def test_a_shared_agent_takes_what_comes_to_another_log_once(
    any_broker_url: str, store: str, client: Redis, change: Change
) -> None:
    app, seen = delivering(any_broker_url, store)
    async with running(app):
        await add(client, SHARED_LOG, 1)
        await add(client, SHARED_LOG, 2, FAR)
        await eventually(lambda: seen == [1, 2])
        await eventually(lambda: _is_settled(client))
        await change(client, SHARED_LOG)
        await add(client, SHARED_LOG, 4)
        await eventually(lambda: seen == [1, 2, 4])
        await add(client, SHARED_LOG, 8)
        await eventually(lambda: seen == [1, 2, 4, 8])
        await eventually(lambda: _is_settled(client))
    assert seen == [1, 2, 4, 8]


async def _is_settled(client: Redis) -> bool:
    [group] = await client.xinfo_groups(SHARED_LOG)
    return not group["pending"] and not group["lag"]


async def test_what_a_restarted_server_has_of_a_deleted_log_is_read(
    database_url: str, tmp_path: Any
) -> None:
    """Its incarnation is another one as well, as after a failover that lost the end of the log."""
    from app.embedded import start_valkey  # noqa: PLC0415

    server = await start_valkey(tmp_path / "valkey")
    app, seen = counting(server.url, database_url)
    async with running(app):
        async with Redis.from_url(server.url) as client:
            await add(client, LOG, 1)
            await add(client, LOG, 2, FAR)
        await eventually(lambda: seen == [1, 2])
    async with Redis.from_url(server.url) as client:
        await client.delete(LOG)
        await add(client, LOG, 4)
    port = server.port
    await server.stop()
    server = await start_valkey(tmp_path / "valkey", port=port)
    heir, seen = counting(server.url, database_url)
    async with running(heir):
        await eventually(lambda: seen == [4])
    await server.stop()
