"""Agents that fail, return or hang: no event is lost, and nobody else is stopped."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import asyncpg
import faust
import pytest

from redfaust.processing.retries import NO_RETRIES, Retries
from redfaust.processing.state_backend import state_backend_of
from redfaust.transports.consumer import Consumer
from redfaust.transports.reading import READ_AHEAD, READ_LIMIT
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running


async def dead_letters(database_url: str) -> list[int]:
    """The values of all dead letters, which are numbers here, in their order."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT value FROM redfaust.dead_letters ORDER BY id")
    finally:
        await connection.close()
    return [int(row["value"]) for row in rows]


async def all_finished(app: faust.App, topic: str = "numbers") -> bool:
    """Whether nothing is left of a topic, also nothing that is to be tried again."""
    assert isinstance(app.consumer, Consumer)
    state_backend = state_backend_of(app)
    if state_backend is not None and (state_backend.unit.parking or state_backend.unit.touched):
        return False
    status = await app.consumer.broker.status(app.conf.id, topic)
    return any(p.length for p in status) and not any(p.lag for p in status)


async def send_numbers(topic: Any, count: int) -> None:
    for number in range(count):
        await topic.send(key="key", value=number)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_an_agent_that_returns_is_started_again(
    any_broker_url: str, concurrency: int
) -> None:
    app, seen = new_app(any_broker_url), set()
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers, concurrency=concurrency)
    async def one_by_one(stream: Any) -> None:
        async for number in stream:
            seen.add(number)
            return

    async with running(app):
        await send_numbers(numbers, 50)
        await eventually(lambda: seen == set(range(50)))
        await eventually(lambda: all_finished(app))


async def test_an_agent_goes_on_after_a_failure_while_it_waits(
    any_broker_url: str, database_url: str
) -> None:
    app, seen = new_app(any_broker_url, database_url), []
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers, retries=NO_RETRIES)
    async def work(stream: Any) -> None:
        async for number in stream:
            if number % 2:
                raise ValueError("odd")
            await asyncio.sleep(0.001)  # in which what the failure left behind is torn down
            seen.append(number)

    async with running(app):
        await send_numbers(numbers, 100)
        await eventually(lambda: all_finished(app))
    assert seen == list(range(0, 100, 2))
    assert await dead_letters(database_url) == list(range(1, 100, 2))


async def test_a_batch_that_fails_is_set_aside_as_a_whole(
    any_broker_url: str, database_url: str
) -> None:
    app, seen = new_app(any_broker_url, database_url), []
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers, retries=NO_RETRIES)
    async def work(stream: Any) -> None:
        async for batch in stream.take(10, within=0.1):
            if 5 in batch:
                raise ValueError("five")
            seen.extend(batch)

    async with running(app):
        await send_numbers(numbers, 100)
        await eventually(lambda: bool(seen) and seen[-1] == 99)
        await eventually(lambda: all_finished(app))
    letters = await dead_letters(database_url)
    assert 5 in letters
    assert sorted(seen + letters) == list(range(100))


async def test_a_repartitioned_stream_goes_on_after_a_failure(
    any_broker_url: str, database_url: str
) -> None:
    app, seen = new_app(any_broker_url, database_url), []
    numbers = app.topic("numbers", key_type=str)

    async def last_digit(number: int) -> str:
        return str(number % 10)

    @app.agent(numbers, retries=NO_RETRIES)
    async def work(stream: Any) -> None:
        async for number in stream.group_by(last_digit, name="digit"):
            if number % 10 == 5:
                raise ValueError("five")
            seen.append(number)

    async with running(app):
        await send_numbers(numbers, 100)
        await eventually(lambda: len(seen) == 90)
        await eventually(lambda: all_finished(app))
    assert sorted(seen) == [number for number in range(100) if number % 10 != 5]
    assert sorted(await dead_letters(database_url)) == list(range(5, 100, 10))


async def test_stopping_does_not_wait_for_events_that_nobody_has_begun(
    any_broker_url: str,
) -> None:
    app, seen = new_app(any_broker_url), []
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers, name="fast")
    async def fast(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    @app.agent(numbers, name="slow")
    async def slow(stream: Any) -> None:
        async for _ in stream:
            await asyncio.sleep(0.1)

    async with running(app):
        await send_numbers(numbers, 100)
        await eventually(lambda: len(seen) == 100)
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 2


async def test_an_event_that_outlasts_its_partitions_is_delivered_again(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.transports.commits.DRAIN_FOR", 0.1)
    app = new_app(any_broker_url, database_url)
    numbers = app.topic("numbers", key_type=str, partitions=1)
    sums = app.Table("sums", key_type=str, default=int, value_type=int)
    begun, may_end = asyncio.Event(), asyncio.Event()

    @app.agent(numbers)
    async def work(stream: Any) -> None:
        async for key, number in stream.items():
            begun.set()
            await may_end.wait()
            sums[key] += number

    async with running(app):
        await send_numbers(numbers, 3)
        await asyncio.wait_for(begun.wait(), PATIENCE)
        assert isinstance(app.consumer, Consumer)
        owned = frozenset(app.consumer.assignment())
        await app.consumer.rebalance.start_over(frozenset())
        await app.consumer.rebalance.start_over(owned)
        may_end.set()
        await eventually(lambda: all_finished(app))
        assert sums["key"] == 3
    assert await dead_letters(database_url) == []


async def test_a_channel_that_comes_while_partitions_move_is_subscribed(
    any_broker_url: str,
) -> None:
    app, got = new_app(any_broker_url), []
    late = app.topic("numbers", key_type=str)
    reading: list[asyncio.Task[None]] = []

    async def read() -> None:
        async for number in late.stream():
            got.append(number)

    @app.on_partitions_assigned.connect
    async def moved(*_: Any, **__: Any) -> None:
        if not reading:
            reading.append(asyncio.create_task(read()))
            await asyncio.sleep(0.1)  # within the rebalance

    async with running(app):
        await send_numbers(late, 20)
        await eventually(lambda: got == list(range(20)))
        reading[0].cancel()


async def test_one_more_channel_of_a_topic_gets_what_comes_next(any_broker_url: str) -> None:
    app, first, second = new_app(any_broker_url), [], []
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers)
    async def work(stream: Any) -> None:
        async for number in stream:
            first.append(number)

    async def read() -> None:
        async for number in numbers.stream():
            second.append(number)

    async with running(app):
        await send_numbers(numbers, 10)
        await eventually(lambda: first == list(range(10)))
        known = len(app.topics)
        reading = asyncio.create_task(read())
        await eventually(lambda: len(app.topics) > known)
        await send_numbers(numbers, 10)
        await eventually(lambda: second == list(range(10)))
        reading.cancel()


async def test_back_pressure_bounds_what_is_in_flight(any_broker_url: str) -> None:
    app, seen, most = new_app(any_broker_url), [], 0
    app.conf.stream_buffer_maxsize = 10
    numbers = app.topic("numbers", key_type=str, partitions=1)

    @app.agent(numbers)
    async def work(stream: Any) -> None:
        nonlocal most
        async for number in stream:
            await asyncio.sleep(0)
            seen.append(number)
            assert isinstance(app.consumer, Consumer)
            most = max(most, *(t.tracker.in_flight for t in app.consumer.owned_partitions.values()))

    async with running(app):
        await send_numbers(numbers, 1000)
        await eventually(lambda: seen == list(range(1000)))
    assert most < 20


async def test_no_more_is_read_than_agents_have_use_for_soon(any_broker_url: str) -> None:
    app, seen, most = new_app(any_broker_url), [], 0
    numbers = app.topic("numbers", key_type=str, partitions=1)

    @app.agent(numbers)
    async def work(stream: Any) -> None:
        nonlocal most
        async for number in stream:
            await asyncio.sleep(0)
            seen.append(number)
            most = max(most, len(stream.channel.queue.buffered))

    async with running(app):
        await send_numbers(numbers, 5 * READ_AHEAD)
        await eventually(lambda: seen == list(range(5 * READ_AHEAD)))
    assert most < READ_AHEAD + READ_LIMIT


async def test_a_batch_may_be_larger_than_what_is_read_ahead(any_broker_url: str) -> None:
    app, sizes = new_app(any_broker_url), []
    size = 3 * READ_AHEAD // 2
    assert size < app.conf.stream_buffer_maxsize  # what may be in flight
    numbers = app.topic("numbers", key_type=str, partitions=1)

    @app.agent(numbers)
    async def work(stream: Any) -> None:
        async for batch in stream.take(size, within=PATIENCE):
            sizes.append(len(batch))

    async with running(app):
        await send_numbers(numbers, size)
        await eventually(lambda: sizes == [size])


async def test_an_event_that_cannot_be_repartitioned_is_tried_again_and_becomes_a_dead_letter(
    any_broker_url: str, database_url: str
) -> None:
    app, asked = new_app(any_broker_url, database_url), Counter[int]()
    seen: list[tuple[int, bytes | None]] = []
    numbers = app.topic("numbers", key_type=str)
    keys: dict[int, Any] = {0: "text", 1: b"bytes", 2: 17, 3: {"an": "object"}, 4: None}

    def key_of(number: int) -> Any:
        asked[number] += 1
        if number == 6 and asked[number] == 1:
            raise ValueError("the first time")
        if number == 5:
            raise KeyError(number)
        return float("nan") if number == 7 else keys.get(number, "text")

    @app.agent(numbers, name="work", retries=Retries(attempts=2, delay=0.01))
    async def work(stream: Any) -> None:
        async for event in stream.group_by(key_of, name="by", partitions=1).events():
            seen.append((event.value, event.message.key))

    async with running(app):
        await send_numbers(numbers, 9)
        await eventually(lambda: len(seen) == 7)
        await eventually(lambda: all_finished(app))
    assert dict(seen) == {
        0: b"text", 1: b"bytes", 2: b"17", 3: b'{"an":"object"}', 4: None, 6: b"text", 8: b"text",
    }  # fmt: skip
    assert sorted(await dead_letters(database_url)) == [5, 7]
    assert (asked[5], asked[6], asked[7]) == (2, 2, 2)
