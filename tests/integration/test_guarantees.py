"""``processing_guarantee``, and what agents send under each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import faust
import pytest
from faust.exceptions import ImproperlyConfigured
from faust.types.enums import ProcessingGuarantee

from redfaust.processing.retries import NO_RETRIES, Retries
from redfaust.processing.state_backend import StateBackend, state_backend_of
from redfaust.processing.topic import Topic
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_batches import sent_to
from tests.integration.test_failures_agents import all_finished
from tests.integration.test_faust_app import fetch


def memory() -> str:
    return f"memory://{uuid4().hex}"


def guarantee_of(app: faust.App) -> object:
    return app.conf.processing_guarantee


def test_exactly_once_is_the_default_with_postgres_and_only_there() -> None:
    with_postgres = new_app(memory(), "postgresql://localhost/any")
    assert guarantee_of(with_postgres) is ProcessingGuarantee.EXACTLY_ONCE
    without = new_app(memory())
    assert guarantee_of(without) is ProcessingGuarantee.AT_LEAST_ONCE
    chosen = faust.App(
        "chosen",
        broker=memory(),
        store="postgresql://localhost/any",
        processing_guarantee="at_least_once",
    )
    assert guarantee_of(chosen) is ProcessingGuarantee.AT_LEAST_ONCE


def test_exactly_once_without_postgres_is_refused() -> None:
    app = faust.App(
        "refused", broker=memory(), store="memory://", processing_guarantee="exactly_once"
    )
    with pytest.raises(ImproperlyConfigured, match="postgresql://, not memory://"):
        app.finalize()


async def test_what_a_failed_attempt_sends_is_never_there(
    any_broker_url: str, database_url: str
) -> None:
    app, attempts = new_app(any_broker_url, database_url), []
    numbers, seen = app.topic("numbers", key_type=str), app.topic("seen", key_type=str)

    @app.agent(numbers, retries=Retries(attempts=3, delay=0.01))
    async def work(stream: Any) -> None:
        async for key, number in stream.items():
            await seen.send(key=key, value=number)
            seen.send_soon(key=key, value=-number)
            attempts.append(number)
            if attempts.count(number) < 3 or number == 5:
                raise ValueError

    async with running(app):
        for number in range(1, 10):
            await numbers.send(key=f"key-{number}", value=number)
        await eventually(lambda: len(attempts) == 27)
        await eventually(lambda: all_finished(app))
        await cast(StateBackend, state_backend_of(app)).publisher.drained()
    expected = [value for n in range(1, 10) if n != 5 for value in (b"%d" % n, b"-%d" % n)]
    found = await sent_to(any_broker_url, "seen")
    assert sorted(value or b"" for value in found) == sorted(expected)


async def test_at_least_once_sends_at_once(database_url: str) -> None:
    broker = memory()
    app = faust.App(
        "now",
        broker=broker,
        store=database_url,
        web_enabled=False,
        topic_partitions=4,
        processing_guarantee="at_least_once",
    )
    numbers, seen, offsets = app.topic("numbers"), app.topic("seen"), []

    @app.agent(numbers, retries=NO_RETRIES)
    async def work(stream: Any) -> None:
        async for number in stream:
            metadata = await (await seen.send(value=number))
            offsets.append(metadata.offset)
            raise ValueError

    async with running(app):
        await numbers.send(value=1)
        await eventually(lambda: offsets == [0])
    assert await sent_to(broker, "seen") == [b"1"]


async def test_without_postgres_an_event_is_tried_again_in_place() -> None:
    app, attempts = new_app(memory()), []
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers, retries=Retries(attempts=3, delay=0.01))
    async def work(stream: Any) -> None:
        async for number in stream:
            attempts.append(number)
            if number == 2 or attempts.count(number) < 2:
                raise ValueError

    async with running(app):
        for number in range(1, 4):
            await numbers.send(key="key", value=number)
        await eventually(lambda: len(attempts) == 7)
        await eventually(lambda: all_finished(app))
    assert attempts == [1, 1, 2, 2, 2, 3, 3]


async def test_a_scheduled_event_is_stored_with_the_commit_of_its_event(
    database_url: str,
) -> None:
    app = new_app(memory(), database_url)
    orders, reminders = app.topic("orders", key_type=str), app.topic("reminders", key_type=str)
    at = datetime.now(UTC) + timedelta(hours=1)

    @app.agent(orders, retries=NO_RETRIES)
    async def remind(stream: Any) -> None:
        async for key, order in stream.items():
            await cast(Topic, reminders).schedule(at=at, key=key, value={"order": order})
            if order == "bad":
                raise ValueError

    async with running(app):
        for order in ("good", "bad"):
            await orders.send(key=order, value=order)
        await eventually(lambda: all_finished(app, "orders"))
        await cast(Topic, reminders).schedule(at=at, key="outside", value=None)
    rows = await fetch(
        database_url, "SELECT topic, key, value, available_at FROM redfaust.outbox ORDER BY id"
    )
    assert rows == [
        ("reminders", b"good", b'{"order":"good"}', at),
        ("reminders", b"outside", None, at),
    ]


async def test_scheduling_needs_a_time_zone_and_a_database() -> None:
    app = new_app(memory())
    topic = cast(Topic, app.topic("numbers"))
    async with running(app):
        with pytest.raises(ValueError, match="time zone"):
            await topic.schedule(at=datetime(2040, 1, 1), value=1)  # noqa: DTZ001
        with pytest.raises(ImproperlyConfigured, match="postgresql://"):
            await topic.schedule(at=datetime.now(UTC), value=1)
