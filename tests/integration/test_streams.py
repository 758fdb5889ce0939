"""What Faust's documentation says that streams and agents can do."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import faust
import pytest

from redfaust.processing import event_stream
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running


async def run(app: faust.App, topic: Any, heard: list[Any], expected: list[Any]) -> None:
    """Send 0 to 5, and wait until what is expected has been heard, in any order."""
    async with running(app):
        for number in range(6):
            await topic.send(key=f"key-{number}", value=number)
        await eventually(lambda: len(heard) >= len(expected))
    assert sorted(heard) == expected


@pytest.fixture
def app(request: pytest.FixtureRequest) -> faust.App:
    return new_app(f"memory://{request.node.name}")


async def test_processors_and_filters(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), []

    async def doubled(number: int) -> int:
        return number * 2

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        stream.add_processor(doubled)
        async for number in stream.filter(lambda n: n > 4):
            heard.append(number)

    await run(app, topic, heard, [6, 8, 10])


async def test_enumerate(app: faust.App) -> None:
    topic, heard = app.topic("numbers", partitions=1), []

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for index, number in stream.enumerate(start=10):
            heard.append((index, number))

    await run(app, topic, heard, [(10 + n, n) for n in range(6)])


async def test_through_a_topic(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), []

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for number in stream.through("other"):
            heard.append((stream.current_event.message.topic, number))

    await run(app, topic, heard, [("other", n) for n in range(6)])
    assert app.topics.acks_enabled_for("other")


async def test_echo(app: faust.App) -> None:
    topic, heard, echoed = app.topic("numbers"), [], []
    echo = app.topic("echo")

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for number in stream.echo(echo):
            heard.append(number)

    @app.agent(echo)
    async def hear_echo(stream: Any) -> None:
        async for number in stream:
            echoed.append(number)

    async with running(app):
        for number in range(6):
            await topic.send(value=number)
        await eventually(lambda: sorted(heard) == sorted(echoed) == list(range(6)))


async def test_group_by_a_field_gives_it_as_the_key(app: faust.App) -> None:
    class Payment(faust.Record):
        account: str
        amount: int

    topic, heard = app.topic("payments", value_type=Payment), []

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for account, payment in stream.group_by(Payment.account).items():
            heard.append((account, payment.amount))

    async with running(app):
        for amount in range(4):
            await topic.send(value=Payment(account=f"a-{amount % 2}", amount=amount))
        await eventually(lambda: len(heard) == 4)
    assert sorted(heard) == [(b"a-0", 0), (b"a-0", 2), (b"a-1", 1), (b"a-1", 3)]


async def test_two_streams_as_one(app: faust.App) -> None:
    left, right, heard = app.topic("left"), app.topic("right"), []

    @app.task  # type: ignore[untyped-decorator] # Faust's
    async def hear() -> None:
        async for number in app.stream(left) & app.stream(right):
            heard.append(number)

    async with running(app):
        await left.send(value=1)
        await right.send(value=2)
        await eventually(lambda: sorted(heard) == [1, 2])


async def test_who_acknowledges_himself(app: faust.App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redfaust.transports.commits.STOP_FOR", 0.1)
    topic, heard = app.topic("numbers", partitions=1), []

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for event in stream.noack().events():
            heard.append(event.value)
            if event.value < 3:
                event.ack()

    await run(app, topic, heard, list(range(6)))
    status = await app.transport.broker.status("test", "numbers")  # type: ignore[attr-defined]
    assert [partition.lag for partition in status] == [3]


@pytest.mark.parametrize("noack", [False, True])
async def test_who_acknowledges_twice_does_so_for_nobody_else(noack: bool) -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}")
    topic, heard, others = app.topic("numbers", partitions=1), [], []
    others_may = asyncio.Event()

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for event in (stream.noack() if noack else stream).events():
            await stream.ack(event)
            event.ack()
            heard.append(event.value)

    @app.agent(topic)
    async def hear_too(stream: Any) -> None:
        async for number in stream:
            await others_may.wait()
            others.append(number)

    async def unfinished() -> int:
        await app.consumer.commit()
        [partition] = await app.transport.broker.status("test", "numbers")  # type: ignore[attr-defined]
        return int(partition.lag or 0)

    async def all_are_finished() -> bool:
        return await unfinished() == 0

    async with running(app):
        for number in range(6):
            await (await topic.send(value=number))
        await eventually(lambda: heard == list(range(6)))
        assert await unfinished() == 6
        others_may.set()
        await eventually(all_are_finished)
    assert others == list(range(6))


async def test_sinks(app: faust.App) -> None:
    heard: list[tuple[str, int]] = []
    topic, sunk = app.topic("numbers"), app.topic("sunk")

    @app.agent()
    async def by_agent(stream: Any) -> None:
        async for number in stream:
            heard.append(("agent", number))

    @app.agent(sunk)
    async def by_topic(stream: Any) -> None:
        async for number in stream:
            heard.append(("topic", number))

    def by_function(number: int) -> None:
        heard.append(("function", number))

    async def by_coroutine(number: int) -> None:
        heard.append(("coroutine", number))

    @app.agent(topic, sink=[by_agent, sunk, by_function, by_coroutine])
    async def work(stream: Any) -> AsyncIterator[int]:
        async for number in stream:
            yield number * 10

    async with running(app):
        await topic.send(value=4)
        await eventually(lambda: len(heard) == 4)
    assert sorted(heard) == [(kind, 40) for kind in ("agent", "coroutine", "function", "topic")]


async def test_each_partition_has_an_instance_of_its_own(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), []

    @app.agent(topic, isolated_partitions=True)
    async def hear(stream: Any) -> None:
        async for event in stream.events():
            [own] = stream.active_partitions
            assert own == event.message.tp
            heard.append(event.value)

    await run(app, topic, heard, list(range(6)))


async def test_an_agent_on_a_channel_ends_quietly(
    app: faust.App, caplog: pytest.LogCaptureFixture
) -> None:
    channel, heard = app.channel(), []

    @app.agent(channel)
    async def hear(stream: Any) -> None:
        async for number in stream:
            heard.append(number)

    async with running(app):
        await channel.send(value=1)
        await eventually(lambda: heard == [1])
    assert "starting it again" not in caplog.text


async def test_whoever_listens_may_add_headers_to_what_is_sent(app: faust.App) -> None:
    topic = app.topic("numbers")
    heard: asyncio.Queue[Any] = asyncio.Queue()

    def add(*_: Any, headers: Any = (), **__: Any) -> None:
        headers.append(("trace", b"42"))

    app.on_produce_message.connect(add)

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for event in stream.events():
            heard.put_nowait(dict(event.headers))

    try:
        async with running(app):
            await topic.send(value=1, headers={"mine": b"1"})
            found = await asyncio.wait_for(heard.get(), PATIENCE)
    finally:
        app.on_produce_message.disconnect(add)
    assert found == {"mine": b"1", "trace": b"42"}


async def test_tasks_timers_and_crontab_run(
    app: faust.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    zones: set[Any] = set()

    def soon(_: str, zone: Any) -> float:
        zones.add(zone)
        return 0.01

    monkeypatch.setattr("faust.app.base.cron.secs_for_next", soon)
    berlin = ZoneInfo("Europe/Berlin")

    async def run_as(name: str) -> None:
        ran.append(name)

    app.timer(0.01)(partial(run_as, "timer"))
    app.crontab("0 9 * * *", timezone=berlin)(partial(run_as, "crontab"))
    app.crontab("0 9 * * *", timezone=berlin, on_leader=True)(partial(run_as, "leader's"))
    app.task(partial(run_as, "task"))
    async with running(app):
        await eventually(lambda: {*ran} == {"timer", "crontab", "leader's", "task"})
        await eventually(lambda: ran.count("crontab") > 1)
    assert ran.count("task") == 1
    assert zones == {berlin}


async def test_an_agent_that_waits_for_nothing_lets_others_run(
    app: faust.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "YIELD_AFTER", 0.0)
    topic = app.topic("numbers", partitions=1)
    turn, turns, heard = 0, list[int](), asyncio.Event()

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        async for number in stream:
            turns.append(turn)
            if number == 999:
                heard.set()

    async with running(app):
        turning = asyncio.create_task(take_turns())
        await asyncio.gather(*[topic.send(value=number) for number in range(1000)])
        await asyncio.wait_for(heard.wait(), PATIENCE)
        turning.cancel()
    assert max(turns.count(each) for each in set(turns)) <= event_stream.LOOK_EVERY
