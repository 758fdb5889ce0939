"""Redis that dies, hangs, is emptied or refuses: no event is lost, and the worker goes on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import faust
import pytest
from redis.asyncio import Redis

from app.embedded import Valkey, start_postgres, start_valkey
from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.group_states import encode
from redfaust.errors import BrokerUnavailable
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished, dead_letters
from tests.rights import as_administrator, as_worker, with_known_password


class Server:
    """A Valkey of this test's own."""

    def __init__(self, directory: Path, running: Valkey) -> None:
        self._directory = directory
        self.running = running
        self.url = as_worker(running.url)

    def signal(self, number: signal.Signals) -> None:
        self.running.server.process.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.running.server.process.wait()

    async def restart(self) -> None:
        self.running = await start_valkey(self._directory, port=self.running.port)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    directory = with_known_password(tmp_path / "valkey")
    server = Server(directory, await start_valkey(directory))
    yield server
    with suppress(ProcessLookupError):
        server.signal(signal.SIGCONT)
    await server.running.stop()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Redis]:
    client = Redis.from_url(as_administrator(server.url))
    yield client
    await client.aclose()


def collecting_app(broker: str, store: str = "memory://") -> tuple[faust.App, Any, set[int]]:
    app = new_app(broker, store)
    numbers = app.topic("numbers", key_type=str)
    seen: set[int] = set()

    @app.agent(numbers)
    async def collect(stream: Any) -> None:
        async for number in stream:
            seen.add(number)

    return app, numbers, seen


async def send(topic: Any, numbers: range) -> None:
    for number in numbers:
        await topic.send(key=str(number), value=number)


async def all_seen(app: faust.App, seen: set[int], count: int) -> None:
    await eventually(lambda: app.crashed or seen == set(range(count)))
    assert not app.crashed, app.crash_reason
    await eventually(lambda: all_finished(app))


async def test_redis_is_killed_while_events_flow(server: Server, database_url: str) -> None:
    app, numbers, seen = collecting_app(server.url, database_url)
    async with running(app):
        await send(numbers, range(2500))
        await eventually(lambda: bool(seen))
        await server.kill()
        await send(numbers, range(2500, 5000))
        await server.restart()
        await all_seen(app, seen, 5000)


async def test_every_connection_is_cut(server: Server, client: Redis, database_url: str) -> None:
    app, numbers, seen = collecting_app(server.url, database_url)
    async with running(app):
        for start in range(0, 1000, 250):
            await send(numbers, range(start, start + 250))
            await eventually(lambda: start in seen)  # noqa: B023 - awaited here
            await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
        await all_seen(app, seen, 1000)


async def test_redis_is_emptied(server: Server, client: Redis, database_url: str) -> None:
    app, numbers, seen = collecting_app(server.url, database_url)
    async with running(app):
        await send(numbers, range(100))
        await all_seen(app, seen, 100)
        await client.flushall()
        # The assignment is gone too, which the worker notices when it heartbeats.
        await eventually(lambda: _owns_again(client))
        await send(numbers, range(100, 200))
        await all_seen(app, seen, 200)


async def _owns_again(client: Redis) -> bool:
    return await client.exists(keys.assignment("test")) == 1


async def test_nothing_is_committed_once_the_lease_has_ended(server: Server) -> None:
    app, numbers, seen = collecting_app(server.url)
    async with running(app):
        assert isinstance(app.consumer, Consumer)
        membership = app.consumer._membership
        await membership._asking.acquire()  # no heartbeat is answered
        membership._relied_until = 0.0  # as for a process that was stopped for long
        await send(numbers, range(10))
        await eventually(lambda: len(seen) == 10)
        with pytest.raises(BrokerUnavailable, match="lease"):
            await app.consumer.force_commit()
        assert not await all_finished(app)
        # The assignment says still that they are this worker's.
        membership._asking.release()
        await all_seen(app, seen, 10)


async def test_a_partition_that_cannot_be_read_stops_no_other(
    server: Server, client: Redis, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.transports.reading.REFUSED_FOR", 0.2)
    app, numbers, seen = collecting_app(server.url, database_url)
    async with running(app):
        await client.delete("{numbers:0}")
        await client.set("{numbers:0}", "not a stream")
        for number in range(90):
            await numbers.send(value=number, partition=1 + number % 3)
        await eventually(lambda: app.crashed or seen == set(range(90)))
        assert not app.crashed, app.crash_reason
        await client.delete("{numbers:0}")
        await numbers.send(value=90, partition=0)
        await all_seen(app, seen, 91)


async def test_what_a_blocked_log_does_not_take_waits_until_it_is_mended(
    server: Server, client: Redis, database_url: str
) -> None:
    app = new_app(server.url, database_url)
    numbers, copies = app.topic("numbers", key_type=str), app.topic("copies", key_type=str)

    @app.agent(numbers)
    async def copy(stream: Any) -> None:
        async for number in stream:
            await copies.send(value=number, partition=number % 2)

    async with running(app):
        await client.set("{copies:1}", "not a stream")
        await send(numbers, range(20))

        async def all_published() -> bool:
            return await client.xlen("{copies:0}") == 10

        await eventually(all_published)
        await client.delete("{copies:1}")

        async def all_followed() -> bool:
            return await client.xlen("{copies:1}") == 10

        await eventually(all_followed)
    assert await dead_letters(database_url) == []


async def test_redis_that_is_full_is_waited_for(
    server: Server, client: Redis, database_url: str
) -> None:
    app, numbers, seen = collecting_app(server.url, database_url)
    async with running(app):
        await client.config_set("maxmemory", 1)
        await send(numbers, range(20))
        await client.config_set("maxmemory", 0)
        await all_seen(app, seen, 20)
    assert await dead_letters(database_url) == []


async def test_an_entry_that_makes_no_sense_stops_nobody(
    server: Server, client: Redis, database_url: str
) -> None:
    app, numbers, seen = collecting_app(server.url, database_url)
    async with running(app):
        await client.xadd("{numbers:0}", {"_v": "0", "_t": "soon"})
        await client.xadd("{numbers:0}", {"_v": "1", "_t": "9" * 400})
        await send(numbers, range(2, 10))
        await all_seen(app, seen, 10)


async def test_partitions_are_lost_while_postgres_is_away(
    server: Server, client: Redis, tmp_path: Path
) -> None:
    postgres = await start_postgres(with_known_password(tmp_path / "postgres"))
    try:
        app, numbers, seen = collecting_app(server.url, as_worker(postgres.url))
        async with running(app):
            await send(numbers, range(100))
            await all_seen(app, seen, 100)
            generation = app.consumer_generation_id
            await postgres.stop()
            await client.xadd(
                keys.assignment("test"), {"assignment": encode(GroupAssignment(("other",)))}
            )
            await eventually(lambda: app.crashed or app.consumer_generation_id > generation)
            postgres = await start_postgres(tmp_path / "postgres", port=postgres.port)
            await send(numbers, range(100, 200))
            await all_seen(app, seen, 200)
    finally:
        await postgres.stop()


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_worker_can_stop_while_redis_is_away(
    server: Server, database_url: str, sig: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.transports.commits.COMMIT_FOR", 0.2)
    monkeypatch.setattr("redfaust.processing.producer.FLUSH_FOR", 0.2)
    app, numbers, seen = collecting_app(server.url, database_url)
    await app.start()
    await send(numbers, range(10))
    await all_seen(app, seen, 10)
    server.signal(sig)
    await send(numbers, range(10, 20))
    stopping = time.monotonic()
    await asyncio.wait_for(app.stop(), 10)
    assert time.monotonic() - stopping < 4
