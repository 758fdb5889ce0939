"""Loops over streams that are left, or stopped, before their stream is at its end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import faust
import pytest

from tests.integration.faust_apps import PATIENCE, eventually, new_app, running


@pytest.fixture
def app() -> faust.App:
    return new_app(f"memory://{uuid.uuid4().hex}", partitions=1)


@asynccontextmanager
async def with_numbers(app: faust.App, topic: Any) -> AsyncIterator[None]:
    """The application, while 0 to 5 are sent."""
    async with running(app):
        for number in range(6):
            await (await topic.send(key="key", value=number))
        yield


async def unfinished(app: faust.App) -> int:
    """Events that would be delivered again, were the worker to die now."""
    await app.consumer.commit()
    [partition] = await app.transport.broker.status("test", "numbers")  # type: ignore[attr-defined]
    return int(partition.lag or 0)


async def finished(app: faust.App, count: int) -> None:
    async def are() -> bool:
        return await unfinished(app) == 6 - count

    await eventually(are)


async def test_an_agent_goes_on_in_another_loop(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), []

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        for _ in range(3):
            async for number in stream:
                heard.append(number)
                break
        async for number in stream:
            heard.append(number)

    async with with_numbers(app, topic):
        await finished(app, 6)
    assert heard == list(range(6))


async def test_an_agent_goes_on_in_another_loop_over_batches(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), []

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for batch in stream.take(2, within=PATIENCE):
            heard.extend(batch)
            break
        async for number in stream:
            heard.append(number)

    async with with_numbers(app, topic):
        await finished(app, 6)
    assert heard == list(range(6))


async def test_what_an_agent_does_behind_its_loop_belongs_to_the_event(
    database_url: str,
) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", database_url, partitions=1)
    topic = app.topic("numbers", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=int, default=int)

    @app.agent(topic)
    async def add(stream: Any) -> None:
        for _ in range(6):
            async for number in stream:
                amount = number
                break
            await asyncio.sleep(0)
            sums["key"] += amount

    async with with_numbers(app, topic):
        await finished(app, 6)
        assert sums["key"] == 15


async def test_an_agent_that_fails_may_await_on_its_way_out(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), []

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        try:
            async for number in stream:
                heard.append(number)
                if heard.count(3) == 1:
                    raise ValueError(number)
        finally:
            for _ in range(10):  # what an interpreter needs to close the loop's iterator, and more
                await asyncio.sleep(0)

    async with with_numbers(app, topic):
        await finished(app, 6)
    assert heard == [0, 1, 2, 3, 3, 4, 5]


async def test_elsewhere_the_event_of_a_loop_that_is_left_is_finished(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), []

    @app.task  # type: ignore[untyped-decorator] # Faust's
    async def hear() -> None:
        async for number in topic.stream():
            heard.append(number)
            if number == 2:
                break

    async with with_numbers(app, topic):
        await finished(app, 3)
    assert heard == [0, 1, 2]


@pytest.mark.parametrize("how", ["it fails", "it is cancelled"])
async def test_elsewhere_it_is_not_finished_if_its_task_is_not(
    app: faust.App, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic, reached = app.topic("numbers"), asyncio.Event()

    async def hear() -> None:
        async for number in topic.stream():
            if number == 2:
                reached.set()
                if how == "it fails":
                    raise ValueError(number)
                await asyncio.Event().wait()

    reader = asyncio.create_task(hear())
    async with with_numbers(app, topic):
        await asyncio.wait_for(reached.wait(), PATIENCE)
        reader.cancel()  # nothing, where it has failed
        await asyncio.wait({reader})
        await eventually(lambda: "was interrupted" in caplog.text)
        assert await unfinished(app) == 4
    assert ("ValueError: 2" in caplog.text) == (how == "it fails")


async def test_a_stream_that_waits_ends_when_it_is_stopped(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), []
    stream = topic.stream()

    async def hear() -> None:
        async for number in stream:
            heard.append(number)

    reader = asyncio.create_task(hear())
    async with with_numbers(app, topic):
        await finished(app, 6)
        await stream.stop()
        await asyncio.wait_for(reader, PATIENCE)
    assert heard == list(range(6))


async def test_a_stream_that_is_stopped_by_its_reader_has_finished_the_event(
    app: faust.App,
) -> None:
    topic, heard = app.topic("numbers"), []
    stream = topic.stream()

    async def hear() -> None:
        async for number in stream:
            heard.append(number)
            if number == 2:
                await stream.stop()

    reader = asyncio.create_task(hear())
    async with with_numbers(app, topic):
        await finished(app, 3)
        await asyncio.wait_for(reader, PATIENCE)
    assert heard == [0, 1, 2]


@pytest.mark.parametrize("options", [{}, {"delivery": "shared"}], ids=["ordered", "shared"])
async def test_an_event_in_whose_middle_an_agent_is_cancelled_is_handed_out_again(
    app: faust.App, options: dict[str, Any]
) -> None:
    topic, begun, ended = app.topic("numbers", partitions=1), list[int](), list[int]()

    @app.agent(topic, **options)
    async def work(stream: Any) -> None:
        async for number in stream:
            begun.append(number)
            if begun == [1]:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            await asyncio.sleep(0)
            ended.append(number)

    async with running(app):
        for number in (1, 2):
            await topic.send(key="a", value=number)
        await eventually(lambda: sorted(ended) == [1, 2])
    assert sorted(begun) == [1, 1, 2]


async def test_an_event_that_was_left_to_be_acknowledged_is_not_handed_out_again(
    app: faust.App,
) -> None:
    topic, begun = app.topic("numbers", partitions=1), list[int]()

    @app.agent(topic)
    async def work(stream: Any) -> None:
        async for number in stream.noack():
            begun.append(number)
            if begun == [1, 2]:
                raise ValueError(number)

    async with running(app):
        for number in (1, 2, 3):
            await topic.send(key="a", value=number)
        await eventually(lambda: begun[-1:] == [3])
    assert begun == [1, 2, 2, 3]
