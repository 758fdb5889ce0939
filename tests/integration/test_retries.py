"""Events that made an agent raise are tried again, wherever they are taken over."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import faust
import pytest

from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.postgres.queries import load
from redfaust.processing.retries import NO_RETRIES, Retries
from redfaust.tables.store import PostgresStore
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished, send_numbers

TOO_EARLY = 1.5
"""Seconds in which an event that is tried too early would be."""


async def test_a_parked_event_waits_until_the_tables_of_its_partition_are_loaded(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()

    def summing(*, fails: bool) -> tuple[faust.App, Any, Any]:
        app = new_app("memory://early", database_url)
        numbers = app.topic("numbers", key_type=str)
        sums = app.Table("sums", key_type=str, value_type=int, default=int)

        @app.agent(numbers, name="add", retries=Retries(attempts=100, delay=0))
        async def add(stream: Any) -> None:
            async for key, number in stream.items():
                sums[key] += number
                tried.set()
                if fails and number == 2:
                    raise RuntimeError("not now")

        return app, numbers, sums

    app, numbers, sums = summing(fails=True)
    async with running(app):
        await send_numbers(numbers, 5)
        await eventually(lambda: sums["key"] == 0 + 1)
    load_partitions = PostgresStore.load_partitions

    async def load_late(self: PostgresStore, *args: Any) -> None:
        tried.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(TOO_EARLY):
                await tried.wait()
        await load_partitions(self, *args)

    monkeypatch.setattr(PostgresStore, "load_partitions", load_late)
    app, _, sums = summing(fails=False)
    async with running(app):
        await eventually(lambda: all_finished(app))
        assert sums["key"] == 0 + 1 + 2 + 3 + 4


async def test_events_queue_behind_one_that_was_parked_before_the_worker_started(
    database_url: str,
) -> None:
    def collecting(seen: list[int], *, fails: bool) -> tuple[faust.App, Any]:
        app = new_app("memory://behind", database_url)
        numbers = app.topic("numbers", key_type=str)

        @app.agent(numbers, name="collect", retries=Retries(attempts=100, delay=0))
        async def collect(stream: Any) -> None:
            async for number in stream:
                seen.append(number)
                if fails:
                    raise RuntimeError("not now")

        return app, numbers

    failed: list[int] = []
    app, numbers = collecting(failed, fails=True)
    async with running(app):
        await numbers.send(key="key", value=0)
        await eventually(lambda: len(failed) > 1)
    collected: list[int] = []
    app, numbers = collecting(collected, fails=False)
    await numbers.send(key="key", value=1)
    async with running(app):
        await eventually(lambda: all_finished(app))
    assert collected == [0, 1]


async def test_later_events_of_a_key_wait_while_it_is_tried_again_and_others_go_on(
    database_url: str,
) -> None:
    app = new_app("memory://later", database_url)
    numbers = app.topic("numbers", key_type=str, partitions=1)
    seen: list[tuple[str, int]] = []
    others = [("another", number) for number in range(5)]

    @app.agent(numbers, retries=Retries(attempts=10_000, delay=0.01, factor=1))
    async def collect(stream: Any) -> None:
        async for key, number in stream.items():
            if (key, number) == ("failing", 0) and len(seen) < len(others):
                raise RuntimeError("not before the others")
            seen.append((key, number))

    async with running(app):
        for number in range(5):
            await numbers.send(key="failing", value=number)
            await numbers.send(key="another", value=number)
        await eventually(lambda: all_finished(app))
    assert seen == others + [("failing", number) for number in range(5)]


@pytest.mark.parametrize("plans", ["force_custom_plan", "force_generic_plan"])
async def test_events_of_a_line_are_found_by_its_key(database_url: str, plans: str) -> None:
    database = await Database.connect(database_url)
    await migrate(database)
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO redfaust.parked"
            " (app, agent, topic, partition, position, timestamp, key, headers, attempts, due_at)"
            " SELECT 'app', 'agent', 'topic', 0, n, 0, (n % 500)::text::bytea, '[]', 0, now()"
            " FROM generate_series(1, 20000) AS n"
        )
        await connection.execute(f"SET LOCAL plan_cache_mode = {plans}")
        query = load("redfaust.processing", "select_parked")
        await connection.execute(f"PREPARE parked AS {query}")
        plan = await connection.fetch(
            "EXPLAIN EXECUTE parked ('app', '{agent}', '{topic}', '{0}', '{7}', '{1}', 20)"
        )
    await database.close()
    lines = "\n".join(row[0] for row in plan)
    assert "Index Scan using parked_lines" in lines
    assert "sha256(" in lines
    assert "Filter" not in lines
    assert "Seq Scan" not in lines


async def test_an_agent_that_fails_does_not_wait_for_the_commit(database_url: str) -> None:
    app, seen = new_app("memory://no-wait", database_url), set()
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers)
    async def collect(stream: Any) -> None:
        async for number in stream:
            seen.add(number)
            if number == 1:
                raise RuntimeError("not now")

    async with running(app):
        await numbers.send(key="0", value=0)
        await eventually(lambda: all_finished(app))
        database = await Database.connect(database_url)
        async with database.transaction() as connection:
            await connection.execute("SELECT FROM redfaust.positions FOR UPDATE")
            for number in (3, 1, 2):
                await numbers.send(key=str(number), value=number, partition=0)
            await eventually(lambda: 2 in seen)
        await database.close()


@pytest.mark.parametrize("delivery", ["ordered", "shared"])
async def test_an_attempt_that_fails_is_not_counted_as_processed(
    memory_url: str, database_url: str, delivery: str
) -> None:
    app = new_app(memory_url, database_url)
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers, name="add", delivery=delivery, retries=Retries(attempts=100, delay=0))
    async def add(stream: Any) -> None:
        async for number in stream:
            if number == 2 and add.retried_total < 3:  # type: ignore[attr-defined]
                raise RuntimeError("not now")

    async with running(app):
        await send_numbers(numbers, 5)
        await eventually(lambda: add.processed_total == 5)  # type: ignore[attr-defined]
        assert (add.retried_total, add.failed_total) == (3, 0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("delivery", ["ordered", "shared"])
async def test_an_event_that_cannot_be_read_counts_as_failed(
    memory_url: str, database_url: str, delivery: str
) -> None:
    app = new_app(memory_url, database_url)
    numbers = app.topic("numbers", key_type=str, value_type=int)  # type: ignore[arg-type]

    @app.agent(numbers, name="add", delivery=delivery, retries=NO_RETRIES)
    async def add(stream: Any) -> None:
        async for number in stream:
            if number == 1:
                raise RuntimeError("not this one")

    async with running(app):
        await numbers.send(key="0", value=b"not JSON", value_serializer="raw")
        await numbers.send(key="1", value=1)
        await eventually(lambda: add.failed_total == 2)  # type: ignore[attr-defined]
        await eventually(lambda: all_finished(app))
        assert add.failed_total == 2  # type: ignore[attr-defined]


async def test_why_a_shared_event_waits_for_another_attempt_is_kept(
    memory_url: str, database_url: str
) -> None:
    app = new_app(memory_url, database_url)
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers, name="mail", delivery="shared", retries=Retries(attempts=9, delay=60))
    async def mail(stream: Any) -> None:
        async for _ in stream:
            raise ConnectionError("the mail server does not answer")

    database = await Database.connect(database_url)
    async with running(app):
        await send_numbers(numbers, 1)

        async def kept() -> bool:
            rows = await database.pool.fetch(
                "SELECT error_type, error, failed_at IS NOT NULL FROM redfaust.inbox"
            )
            return [tuple(row) for row in rows] == [
                ("ConnectionError", "the mail server does not answer", True)
            ]

        await eventually(kept)
    await database.close()
