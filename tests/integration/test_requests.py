"""Agents that are asked, by whoever is started and by whoever is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, cast

import faust
import pytest
from faust.agents.models import ReqRepResponse
from redis.asyncio import Redis

from redfaust.brokers.log_cleaner import LogCleaner
from redfaust.brokers.redis.offsets import offset_of
from redfaust.processing import replies
from redfaust.transports.by_url import broker_by_url
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running


class Calculator(NamedTuple):
    """An application that calculates."""

    app: faust.App
    square: Any
    hundredfold_square: Any


def calculator(broker: str, store: str = "memory://") -> Calculator:
    app = new_app(broker, store)

    @app.agent(app.topic("squares"))
    async def square(stream: Any) -> AsyncIterator[float]:
        async for number in stream:
            yield number**2

    @app.agent(app.topic("hundredfolds"))
    async def hundredfold_square(stream: Any) -> AsyncIterator[float]:
        async for number in stream:
            yield 100 * await square.ask(number)

    return Calculator(app, square, hundredfold_square)


async def asked(agent: Any, number: float) -> float:
    return cast(float, await asyncio.wait_for(agent.ask(number), PATIENCE))


async def test_who_asks_gets_answers_and_the_worker_stops(any_broker_url: str) -> None:
    app, square, _ = calculator(any_broker_url)
    async with running(app), asyncio.timeout(PATIENCE):
        assert await square.ask(7, key="k") == 49
        assert await square.join([3, 1, 2]) == [9, 1, 4]
        assert await square.kvjoin([("a", 3), ("b", 1), ("c", 2)]) == [9, 1, 4]
        assert {answer async for answer in square.map([3, 1, 2])} == {9, 1, 4}
        assert {answer async for answer in square.kvmap([("a", 4), ("b", 5)])} == {16, 25}
        assert await (await square.ask_nowait(6)) == 36
        await eventually(lambda: nothing_unfinished(app))


async def nothing_unfinished(app: faust.App) -> bool:
    assert isinstance(app.consumer, Consumer)
    status = await app.consumer.broker.status(app.conf.id, app.conf.reply_to)
    return not any(partition.lag for partition in status)


async def test_an_event_may_ask_while_it_is_processed_exactly_once(database_url: str) -> None:
    app, _, hundredfold_square = calculator("memory://asking", database_url)
    async with running(app):
        assert await asked(hundredfold_square, 3) == 900
        assert await asyncio.wait_for(hundredfold_square.join([1, 2]), PATIENCE) == [100, 400]


async def test_an_event_that_is_tried_again_asks_again_and_sends_once(database_url: str) -> None:
    app = new_app("memory://asking-again", database_url)
    questions, heard = [], []
    told = app.topic("told")

    @app.agent(app.topic("questions"))
    async def answer(stream: Any) -> AsyncIterator[str]:
        async for question in stream:
            questions.append(question)
            yield question.upper()

    @app.agent(app.topic("work"))
    async def work(stream: Any) -> None:
        async for word in stream:
            await told.send(value=word)
            if await answer.ask(word) and len(questions) == 1:
                raise ValueError("not now")

    @app.agent(told)
    async def hear(stream: Any) -> None:
        async for word in stream:
            heard.append(word)

    async with running(app):
        await work.cast("hello")
        await eventually(lambda: heard == ["hello"])
    assert questions == ["hello", "hello"]
    assert heard == ["hello"]


async def test_who_is_not_started_asks_without_becoming_a_member(any_broker_url: str) -> None:
    worker, client = calculator(any_broker_url), calculator(any_broker_url)
    async with running(worker.app):
        assert isinstance(worker.app.consumer, Consumer)
        try:
            assert await asked(client.square, 5) == 25
            assert await asked(client.square, 6) == 36
            group_state = await worker.app.consumer.broker.group_state(worker.app.conf.id)
            assert group_state.assignment.members == (worker.app.consumer.member,)
        finally:
            await asyncio.wait_for(client.app.stop(), PATIENCE)


async def test_who_is_not_started_hears_answers_also_after_their_log_was_deleted(
    any_broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redfaust.transports.log_watch.LOOK_EVERY", 0.1)
    worker, client = calculator(any_broker_url), calculator(any_broker_url)
    log = f"{{{client.app.conf.reply_to}:0}}"
    async with running(worker.app), Redis.from_url(any_broker_url) as redis:
        try:
            assert await asked(client.square, 5) == 25
            far = await redis.xadd(log, {"_v": "odd"}, id="99999999999999-0")
            owned_partitions = cast(Consumer, client.app.consumer).owned_partitions
            end = offset_of(cast(bytes, far)) + 1
            await eventually(
                lambda: any(
                    owned_partition.next == end for owned_partition in owned_partitions.values()
                )
            )
            await redis.delete(log)
            assert await asked(client.square, 6) == 36
        finally:
            await asyncio.wait_for(client.app.stop(), PATIENCE)


async def test_an_answer_that_comes_twice_harms_nobody() -> None:
    app, square, _ = calculator("memory://twice")
    async with running(app):
        promise = await square.ask_nowait(4, correlation_id="one")
        assert await asyncio.wait_for(promise, PATIENCE) == 16
        again = ReqRepResponse(key=None, value=17, correlation_id="one")
        await app.send(app.conf.reply_to, value=again)
        assert await asked(square, 5) == 25
        assert promise.result() == 16


async def test_the_answer_may_go_to_a_topic_and_the_request_into_headers() -> None:
    app = new_app("memory://headers")
    answers: asyncio.Queue[Any] = asyncio.Queue()
    topic = app.topic("answers", value_type=ReqRepResponse)

    @app.agent(app.topic("words"), use_reply_headers=True)
    async def shout(stream: Any) -> AsyncIterator[str]:
        async for word in stream:
            assert isinstance(word, str)
            yield word.upper()

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for answer in stream:
            answers.put_nowait((answer.correlation_id, answer.value))

    async with running(app):
        await shout.send(value="hello", reply_to=topic, correlation_id="mine")
        assert await asyncio.wait_for(answers.get(), PATIENCE) == ("mine", "HELLO")
        assert await asyncio.wait_for(shout.ask("well"), PATIENCE) == "WELL"


async def test_the_topic_of_answers_goes_with_its_process(any_broker_url: str) -> None:
    app, square, _ = calculator(any_broker_url)
    async with running(app), asyncio.timeout(PATIENCE):
        assert await square.ask(7) == 49
        assert isinstance(app.consumer, Consumer)
        assert app.conf.reply_to in await app.consumer.broker.topics()
    broker = broker_by_url(any_broker_url, default_partitions=1)
    await broker.open()
    try:
        assert app.conf.reply_to not in await broker.topics()
        assert "squares" in await broker.topics()
    finally:
        await broker.close()


async def test_the_topic_of_answers_of_a_process_that_was_killed_expires(
    any_broker_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(_: object) -> None:
        """Nothing is deleted."""

    monkeypatch.setattr(replies, "LEFT_AFTER", 0.0)
    monkeypatch.setattr(replies.ReplyConsumer, "delete_topics", killed)
    app, square, _ = calculator(any_broker_url)
    async with running(app), asyncio.timeout(PATIENCE):
        assert await square.ask(7) == 49
    broker = broker_by_url(any_broker_url, default_partitions=1)
    await broker.open()
    try:
        await LogCleaner(broker, "keeper").keep()
        assert app.conf.reply_to not in await broker.topics()
    finally:
        await broker.close()


async def test_a_producer_has_no_answers_sent_to_any_topic(empty_valkey_url: str) -> None:
    app, square, _ = calculator(empty_valkey_url)
    async with running(app), Redis.from_url(empty_valkey_url) as stranger:
        fields = {"_v": "5", "_h:Faust-Ag-ReplyTo": "orders", "_h:Faust-Ag-CorrelationId": "x"}
        await stranger.xadd("{squares:0}", fields)  # type: ignore[arg-type]
        assert await asked(square, 7) == 49
        await eventually(lambda: nothing_unfinished(app))
        consumer = cast("Consumer", app.consumer)
        assert "orders" not in await consumer.broker.topics()
