"""Channels of several topics, and of topics that are found by a pattern."""

from __future__ import annotations

from typing import Any

import pytest

from redfaust.transports import conductor
from tests.integration.faust_apps import eventually, new_app, running


async def test_topics_that_match_a_pattern_are_found_while_running(
    any_broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conductor, "LOOK_FOR_TOPICS", 0.05)
    writer = new_app(any_broker_url, name="writer")
    reader = new_app(any_broker_url, name="reader")
    heard: list[tuple[str, Any]] = []

    @reader.agent(reader.topic(pattern=r"orders-.*"))
    async def hear(stream: Any) -> None:
        async for event in stream.events():
            heard.append((event.message.topic, event.value))

    await writer.producer.start()
    try:
        await writer.topic("orders-before").send(value=1)
        await writer.topic("invoices-before").send(value=1)
        async with running(reader):
            await eventually(lambda: heard == [("orders-before", 1)])
            await writer.topic("orders-later").send(value=2)
            await eventually(lambda: heard[1:] == [("orders-later", 2)])
            await writer.topic("orders-later").send(value=3)
            await writer.topic("orders-before").send(value=4)
            await eventually(lambda: sorted(v for _, v in heard) == [1, 2, 3, 4])
    finally:
        await writer.producer.stop()
    assert {topic for topic, _ in heard} == {"orders-before", "orders-later"}


async def test_one_channel_reads_several_topics() -> None:
    app = new_app("memory://several")
    heard: list[Any] = []

    @app.agent(app.topic("first", "second"))
    async def hear(stream: Any) -> None:
        async for value in stream:
            heard.append(value)

    async with running(app):
        for n in range(10):
            await app.send("first" if n % 2 else "second", value=n)
        await eventually(lambda: sorted(heard) == list(range(10)))
