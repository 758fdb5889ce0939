"""Topics keep what they were declared with, and what somebody needs."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from typing import Any

import faust
import pytest
from faust.exceptions import ImproperlyConfigured
from faust.types import TP

from redfaust.brokers.broker import Broker, Outgoing, Retention, TopicSpec
from redfaust.brokers.log_cleaner import LogCleaner, explain
from redfaust.postgres.database import Database
from redfaust.processing.topic_config import retention_of
from redfaust.transports.by_url import broker_by_url
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean all the time."""
    monkeypatch.setattr("redfaust.brokers.log_cleaner.EVERY", 0.02)


def broker_of(app: faust.App) -> Broker:
    broker: Broker = app.transport.broker  # type: ignore[attr-defined] # ours
    return broker


async def length(broker: Broker, topic: str) -> int:
    return sum(partition.length for partition in await broker.status("test", topic))


async def test_an_application_bounds_its_topics(
    any_broker_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app(any_broker_url, partitions=2)
    config = {"retention.entries": 10, "segment.bytes": 1000}
    numbers = app.topic("numbers", config=config)
    unread = app.topic("unread", config={"retention.entries": 5}, partitions=3)
    seen = []

    @app.agent(numbers)
    async def watch(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    async with running(app):
        for n in range(300):
            await numbers.send(key=str(n), value=n)
            await unread.send(key=str(n), value=n)
        broker = broker_of(app)
        await eventually(lambda: len(seen) == 300)

        async def are_bounded() -> bool:
            return (await length(broker, "numbers"), await length(broker, "unread")) == (20, 15)

        await eventually(are_bounded)
        await numbers.send(key="last", value=300)
        await eventually(lambda: len(seen) == 301)
        await eventually(lambda: all_finished(app))
    assert sorted(seen) == list(range(301))
    told = [record.getMessage() for record in caplog.records if "segment.bytes" in record.message]
    assert len(told) == 1


async def test_what_was_not_processed_is_kept(any_broker_url: str) -> None:
    broker = broker_by_url(any_broker_url, default_partitions=1)
    await broker.open()
    await broker.create_topic(TopicSpec("numbers", 1, Retention(entries=1)))
    await broker.join("test", ["numbers"], from_start=True)
    keeper = LogCleaner(broker, "keeper")
    entries = [Outgoing("numbers", b"%d" % n, b"k") for n in range(100)]
    for n in range(0, 100, 10):
        await broker.append(entries[n : n + 10])
        await keeper.keep()
    app = new_app(any_broker_url, partitions=1)
    seen = []

    @app.agent(app.topic("numbers"))
    async def watch(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    async with running(app):
        await eventually(lambda: len(seen) == 100)
    assert seen == list(range(100))
    assert await broker.retentions() == {"numbers": Retention(entries=1)}
    await broker.close()


async def test_who_holds_back_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = broker_by_url(f"memory://{uuid.uuid4().hex}", default_partitions=2)
    await broker.create_topic(TopicSpec("numbers", 2, Retention(entries=5)))
    await broker.join("gone", ["numbers"], from_start=True)
    keeper = LogCleaner(broker, "keeper")
    entries = [Outgoing("numbers", b"", partition=n % 2) for n in range(20)]

    async def tellings() -> int:
        await keeper.keep()
        return sum("gone" in record.message for record in caplog.records)

    assert await tellings() == 0
    await broker.append(entries)
    assert await tellings() == 1
    assert await tellings() == 1
    await broker.leave("gone", ["numbers"])
    assert await tellings() == 1
    assert await length(broker, "numbers") == 10
    await broker.join("gone", ["numbers"], from_start=True)
    await broker.append(entries)
    assert await tellings() == 2
    assert "forget-group" in caplog.text


async def test_it_says_what_is_held_back_and_by_whom() -> None:
    broker = broker_by_url(f"memory://{uuid.uuid4().hex}", default_partitions=1)
    await broker.append([Outgoing("numbers", b"x" * 500, partition=0) for _ in range(3)])
    await broker.join("gone", ["numbers"], from_start=True)
    tp = TP("numbers", 0)
    for retention, expected in (
        (Retention(age=0.0), "0:00:00 are wanted"),
        (Retention(size=7), "bytes, and 7 are wanted"),
        (Retention(entries=2), "3 entries, and 2 are wanted"),
    ):
        held = (await broker.held_back({tp: retention}))[tp]
        assert expected in explain(tp, held, retention)


async def test_a_database_that_was_set_back_too_far_is_told(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"memory://{uuid.uuid4().hex}"

    async def add_up() -> None:
        app = new_app(url, database_url, partitions=1)
        numbers = app.topic("numbers", key_type=str, config={"retention.entries": 2})
        sums = app.Table("sums", key_type=str, value_type=int, default=int)

        @app.agent(numbers)
        async def add(stream: Any) -> None:
            async for key, number in stream.items():
                sums[key] += number

        async with running(app):
            for n in range(20):
                await numbers.send(key="a", value=n)
            await eventually(lambda: all_finished(app))
            broker = broker_of(app)
            await eventually(lambda: _is_short(broker))

    await add_up()
    assert "set back" not in caplog.text
    database = await Database.connect(database_url)
    await database.pool.execute("UPDATE redfaust.positions SET position = 3")
    await database.close()
    with caplog.at_level(logging.ERROR):
        await add_up()
    assert "The database was set back behind what is kept" in caplog.text


async def _is_short(broker: Broker) -> bool:
    return await length(broker, "numbers") <= 3


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, None),
        ({"retention": 60}, Retention(age=60.0)),
        (
            {"retention": 60, "compacting": True, "deleting": True},
            Retention(age=60.0, compacted=True),
        ),
        ({"retention": 60, "compacting": True}, Retention(compacted=True)),
        ({"retention": 60, "deleting": False}, Retention()),
        ({"config": {"retention.ms": "1500"}, "retention": 60}, Retention(age=1.5)),
        ({"config": {"retention.ms": -1}, "retention": 60}, Retention()),
        ({"config": {"retention.bytes": 7, "retention.entries": 8}}, Retention(None, 7, 8)),
        ({"config": {"cleanup.policy": "compact", "retention.ms": 7}}, Retention(compacted=True)),
        (
            {"config": {"cleanup.policy": "compact, delete", "retention.ms": 7}},
            Retention(age=0.007, compacted=True),
        ),
        (
            {"compacting": True, "config": {"delete.retention.ms": 1500}},
            Retention(compacted=True, deletions=1.5),
        ),
        ({"config": {"segment.bytes": 7}}, None),
    ],
)
def test_faust_and_kafka_say_it(said: Mapping[str, Any], expected: Retention | None) -> None:
    nothing: dict[str, Any] = dict.fromkeys(("retention", "compacting", "deleting", "config"))
    assert retention_of(**{**nothing, **said}) == expected


@pytest.mark.parametrize("value", ["a lot", None, -2])
def test_a_bound_that_is_no_number_is_refused_at_once(value: object) -> None:
    app = new_app("memory://")
    with pytest.raises(ImproperlyConfigured, match=r"retention\.bytes"):
        app.topic("numbers", config={"retention.bytes": value})


async def test_it_goes_on_while_the_broker_is_away() -> None:
    broker = broker_by_url("redis://127.0.0.1:1", default_partitions=1)
    keeping = asyncio.create_task(LogCleaner(broker, "keeper").run())
    done, _ = await asyncio.wait({keeping}, timeout=0.1)
    assert not done
    keeping.cancel()
    await broker.close()
