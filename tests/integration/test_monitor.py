"""What Faust's monitor says of events that take short ways past it, and what other sensors hear."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import faust
import pytest
from faust.sensors import Monitor
from faust.types import TP

from tests.integration.faust_apps import eventually, new_app, running

EVENTS = 200
"""More than a loop goes through without a pause."""


class Witness(Monitor):
    """A monitor of somebody's own."""


def an_app(store: str = "memory://") -> faust.App:
    return new_app(f"memory://{uuid.uuid4().hex}", store, partitions=1)


async def send(topic: Any, numbers: range) -> None:
    for number in numbers:
        await (await topic.send(key="key", value=number))


@pytest.mark.parametrize("kind", [Monitor, Witness])
async def test_events_are_counted_once(kind: type[Monitor]) -> None:
    app = an_app()
    app.conf.Monitor = kind  # type: ignore[assignment] # Faust says what it is by a string
    topic, others_may = app.topic("numbers"), asyncio.Event()

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for _ in stream.filter(lambda number: number % 2):
            pass

    @app.agent(topic)
    async def hear_the_last_later(stream: Any) -> None:
        async for number in stream:
            if number == EVENTS - 1:
                await others_may.wait()

    async with running(app):
        monitor = app.monitor
        await send(topic, range(EVENTS))
        await eventually(lambda: monitor.events_total == 2 * EVENTS and monitor.events_active == 1)
        await eventually(lambda: monitor.messages_active == 1)
        others_may.set()
        await eventually(lambda: monitor.events_active == monitor.messages_active == 0)
        assert monitor.messages_received_total == EVENTS
        assert monitor.messages_received_by_topic == {"numbers": EVENTS}
        assert sorted(monitor.events_by_stream.values()) == [EVENTS, EVENTS]
        assert sum(monitor.events_by_task.values()) == 2 * EVENTS
        assert monitor.events_runtime
        await app.consumer.commit()
        last = TP("numbers", 0)
        assert monitor.tp_read_offsets[last] == monitor.tp_committed_offsets[last] - 1
        assert monitor.tp_end_offsets == monitor.tp_committed_offsets
        assert monitor.commit_latency
        assert monitor.assignments_completed > 0


async def test_batches_are_counted() -> None:
    app = an_app()
    topic, may = app.topic("numbers"), asyncio.Event()

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for _ in stream.filter(lambda number: number > 1).take(4, within=60):
            await may.wait()

    async with running(app):
        monitor = app.monitor
        await send(topic, range(6))
        await eventually(lambda: monitor.events_active == 4)
        may.set()
        await eventually(lambda: monitor.events_active == monitor.messages_active == 0)
        assert monitor.events_total == monitor.messages_received_total == 6


async def test_what_is_done_with_tables_is_counted(database_url: str) -> None:
    app = an_app(database_url)
    topic = app.topic("numbers", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=int, default=int)

    @app.agent(topic)
    async def add(stream: Any) -> None:
        async for number in stream:
            sums["key"] += number
            if number == 2:
                del sums["key"]

    async with running(app):
        await send(topic, range(3))
        await eventually(lambda: app.monitor.events_total == 3)
        counts = app.monitor.tables["sums"]
        assert (counts.keys_retrieved, counts.keys_updated, counts.keys_deleted) == (3, 3, 1)
        await eventually(lambda: bool(app.monitor.tp_committed_offsets))


@pytest.mark.parametrize("store", ["memory", "postgres"])
async def test_tables_start_where_nobody_watches(store: str, database_url: str) -> None:
    app = an_app("memory://" if store == "memory" else database_url)
    table = app.Table("sums", key_type=str, value_type=int)
    app.finalize()
    for sensor in list(app.sensors):
        app.sensors.remove(sensor)
    await table.start()
    await table.stop()


async def test_a_client_that_starts_while_an_event_is_sent_is_told_of_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = new_app("memory://monitored-client")
    topic = app.topic("topic")
    broker: Any = app.transport.broker  # type: ignore[attr-defined]
    append, may_append = broker.append, asyncio.Event()

    async def append_later(entries: Any) -> Any:
        await may_append.wait()
        return await append(entries)

    monkeypatch.setattr(broker, "append", append_later)
    await app.producer.start()
    sent = await topic.send(key="k", value=1)
    soon = topic.send_soon(key="k", value=2)
    await app.start_client()
    may_append.set()
    await sent
    await soon
    await app.stop()
    assert app.monitor.messages_sent == 2
    assert "Monitor" not in caplog.text
