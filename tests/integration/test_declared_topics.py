"""A topic has as many partitions as were said, whoever touches it first."""

from __future__ import annotations

import uuid
from typing import Any

import faust
import pytest

from redfaust.brokers.broker import TopicSpec
from redfaust.brokers.memory.broker import MemoryBroker
from redfaust.errors import BrokerUnavailable
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_retention import broker_of


async def partitions_of(app: faust.App, topic: str) -> int | None:
    return (await broker_of(app).topics()).get(topic)


async def test_a_client_sends_to_a_topic_that_nobody_reads(any_broker_url: str) -> None:
    app = new_app(any_broker_url, partitions=2)
    await app.start_client()
    await (await app.topic("some").send(value=1))
    await (await app.topic("many", partitions=7).send(value=1))
    assert await partitions_of(app, "some") == 2
    assert await partitions_of(app, "many") == 7
    await app.stop()


async def test_an_agent_sends_exactly_once_to_a_topic_that_nobody_reads(
    any_broker_url: str, database_url: str
) -> None:
    app = new_app(any_broker_url, database_url, partitions=2)
    numbers = app.topic("numbers")

    @app.agent(numbers)
    async def pass_on(stream: Any) -> None:
        async for number in stream:
            await app.topic("many", partitions=7).send(value=number)

    async with running(app):
        await numbers.send(value=1)

        async def is_there() -> bool:
            return await partitions_of(app, "many") is not None

        await eventually(is_there)
        assert await partitions_of(app, "many") == 7


async def test_what_was_said_is_declared_again_if_it_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", partitions=2)
    create, asked = MemoryBroker.create_topic, []

    async def create_at_last(self: MemoryBroker, spec: TopicSpec) -> int:
        asked.append(spec)
        if len(asked) == 1:
            raise BrokerUnavailable("not now")
        return await create(self, spec)

    topic = app.topic("many", partitions=7)
    monkeypatch.setattr(MemoryBroker, "create_topic", create_at_last)
    await app.start_client()
    await (await topic.send(value=1))
    await (await topic.send(value=2))
    assert asked == [TopicSpec("many", 7)] * 2
    assert await partitions_of(app, "many") == 7
    await app.stop()
