"""What ends an agent's function in the middle of an event, or keeps it from the next: nothing is
lost, nothing counts twice or by half, and later events are handed out."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import faust
import pytest
from faust.types import EventT

from redfaust.processing.retries import NO_RETRIES, Retries
from redfaust.processing.topic import Topic
from redfaust.testing import in_memory
from redfaust.testing.running import AppInMemory
from tests.integration.faust_apps import PATIENCE, new_app

LATER = 60
"""Seconds in which every other attempt is made, and every batch is full."""

BOTH_WAYS = pytest.mark.parametrize("delivery", ["ordered", "shared"])


@pytest.fixture
def app() -> faust.App:
    return new_app(f"memory://{uuid.uuid4().hex}", "postgresql://in.memory", partitions=1)


async def send_numbers(run: AppInMemory, to: Any, *numbers: int) -> None:
    for number in numbers:
        await run.send(to, key="key", value=number)


async def unfinished(app: faust.App) -> int:
    """Events that would be delivered again, were the worker to die now."""
    await app.consumer.commit()
    status = await app.transport.broker.status("test", "numbers")  # type: ignore[attr-defined]
    return sum(partition.lag or 0 for partition in status)


def cancel_all(agent: Any) -> None:
    for actor in agent._actors:
        actor.actor_task.cancel()


# -- loops ---------------------------------------------------------------------------------------


async def test_a_loop_sees_what_the_one_before_it_wrote(app: faust.App) -> None:
    topic = app.topic("numbers", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=int, default=int)

    @app.agent(topic)
    async def add(stream: Any) -> None:
        while True:
            async for number in stream:
                sums["key"] += number
                break

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3, 4)
        await run.settled()
        assert sums["key"] == 10


async def test_an_event_of_a_loop_before_has_not_failed(app: faust.App) -> None:
    topic = app.topic("numbers", key_type=str)

    @app.agent(topic, retries=NO_RETRIES)
    async def work(stream: Any) -> None:
        while True:
            async for number in stream:
                if number == 2:
                    raise ValueError(number)
                break

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3)
        await run.settled()
        assert [letter.value for letter in run.dead_letters] == [b"2"]


async def test_a_loop_within_a_loop_asks_for_the_next_event_too(app: faust.App) -> None:
    topic = app.topic("numbers", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=int, default=int)

    @app.agent(topic)
    async def add(stream: Any) -> None:
        async for number in stream:
            sums["key"] += number
            if number == 2:
                async for another in stream:
                    sums["key"] += another
                    break

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3, 4)
        await run.settled()
        assert sums["key"] == 10
        assert await unfinished(app) == 0


async def test_tasks_of_one_agent_have_events_of_their_own(app: faust.App) -> None:
    topic, begun, may_end = app.topic("numbers", key_type=str), list[int](), asyncio.Event()

    @app.agent(topic)
    async def work(stream: Any) -> None:
        async def read() -> None:
            async for number in stream:
                begun.append(number)
                await may_end.wait()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(read())

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3, 4)
        await run.settled()
        assert (begun, await unfinished(app)) == ([1, 2, 3], 4)
        may_end.set()
        await run.settled()
        assert (begun, await unfinished(app)) == ([1, 2, 3, 4], 0)


async def test_a_task_goes_on_in_another_loop(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), list[int]()

    @app.task  # type: ignore[untyped-decorator] # Faust's
    async def hear() -> None:
        stream = topic.stream()
        for _ in range(3):
            async for number in stream:
                heard.append(number)
                break
        async for number in stream:
            heard.append(number)

    async with in_memory(app) as run:
        for number in (1, 2, 3, 4, 5):
            await send_numbers(run, topic, number)
            await run.advance(seconds=1)
        assert (heard, await unfinished(app)) == ([1, 2, 3, 4, 5], 0)


async def test_a_batch_that_was_being_collected_for_a_loop_before(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), list[int]()

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        while True:
            try:
                async with asyncio.timeout(1):
                    async for batch in stream.take(4, within=LATER):
                        heard.extend(batch)
            except TimeoutError:
                pass

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2)
        await run.advance(seconds=1.5)
        await send_numbers(run, topic, 3, 4)
        await run.settled()
        assert (heard, await unfinished(app)) == ([1, 2, 3, 4], 0)


async def test_a_batch_that_was_being_collected_when_its_stream_was_stopped(
    app: faust.App,
) -> None:
    topic, heard = app.topic("numbers"), list[int]()
    stream = topic.stream()

    @app.task  # type: ignore[untyped-decorator] # Faust's
    async def hear() -> None:
        for _ in range(2):
            async for batch in stream.take(4, within=LATER):
                heard.extend(batch)

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2)
        await run.advance(seconds=1)
        await stream.stop()
        await send_numbers(run, topic, 3, 4)
        await run.settled()
        assert (heard, await unfinished(app)) == ([1, 2, 3, 4], 0)


async def test_an_event_that_was_in_a_processor_for_a_loop_before(app: faust.App) -> None:
    topic, heard, tried = app.topic("numbers"), list[int](), list[int]()

    async def slow_once(number: int) -> bool:
        tried.append(number)
        await asyncio.sleep(LATER if tried == [1, 2] else 0)
        return True

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        chosen = stream.filter(slow_once)
        while True:
            try:
                async with asyncio.timeout(1):
                    async for number in chosen:
                        heard.append(number)
            except TimeoutError:
                pass

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3)
        await run.advance(seconds=1.5)
        assert (heard, await unfinished(app)) == ([1, 2, 3], 0)


async def test_of_a_batch_that_a_processor_refused_the_others_are_handed_out(
    app: faust.App,
) -> None:
    topic, heard = app.topic("numbers"), list[int]()

    def refuse(number: int) -> bool:
        if number == 3:
            raise ValueError(number)
        return True

    @app.agent(topic)
    async def hear(stream: Any) -> None:
        chosen = stream.filter(refuse)
        while True:
            try:
                async for batch in chosen.take(4, within=1):
                    heard.extend(batch)
            except ValueError:
                pass

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3, 4)
        await run.advance(seconds=2)
        assert (heard, await unfinished(app)) == ([1, 2, 4], 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_processor_did_for_an_event_that_it_left_out_of_a_batch(
    app: faust.App, fails: bool
) -> None:
    topic, left_out = app.topic("numbers", key_type=str), app.topic("left-out")
    batches: list[list[int]] = []

    async def odd(number: int) -> bool:
        if number % 2 == 0:
            await left_out.send(value=number)
        return number % 2 == 1

    @app.agent(topic)
    async def work(stream: Any) -> None:
        async for batch in stream.filter(odd).take(2, within=1):
            batches.append(batch)
            if fails and len(batches) == 1:
                raise ValueError

    async with in_memory(app) as run:
        await send_numbers(run, topic, 0, 1, 2, 3, 4, 5)
        await run.advance(seconds=LATER)
        assert [event.value for event in run.sent(left_out)] == [0, 2, 4]
        assert batches == ([[1, 3], [1], [3], [5]] if fails else [[1, 3], [5]])
        assert await unfinished(app) == run.waiting_for_retry == 0


# -- acknowledging -------------------------------------------------------------------------------


@pytest.mark.parametrize("noack", [False, True])
async def test_an_early_acknowledgement_of_a_batch_that_fails(app: faust.App, noack: bool) -> None:
    topic, failed = app.topic("numbers", key_type=str), list[int]()
    sums = app.Table("sums", key_type=str, value_type=int, default=int)

    @app.agent(topic)
    async def add(stream: Any) -> None:
        async for events in (stream.noack() if noack else stream).take_events(3, within=1):
            for event in events:
                sums["key"] += event.value
                if event.value == 2 and not failed:
                    failed.append(event.value)
                    raise ValueError(event.value)
                event.ack()

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3, 4)
        await run.advance(seconds=LATER)
        assert (sums["key"], await unfinished(app)) == (10, 0)


async def test_an_acknowledged_event_of_a_batch_that_wrote_nothing_is_not_tried_again(
    app: faust.App,
) -> None:
    topic, heard = app.topic("numbers"), list[int]()

    @app.agent(topic)
    async def work(stream: Any) -> None:
        async for events in stream.take_events(2, within=1):
            for event in events:
                heard.append(event.value)
                if heard == [1, 2]:
                    raise ValueError
                event.ack()

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2)
        await run.advance(seconds=LATER)
        assert (heard, await unfinished(app)) == ([1, 2, 2], 0)


async def test_what_was_not_acknowledged_before_a_failure_can_be_behind_it(app: faust.App) -> None:
    topic, kept = app.topic("numbers"), list[EventT[Any]]()

    @app.agent(topic, retries=NO_RETRIES)
    async def keep(stream: Any) -> None:
        async for event in stream.noack().events():
            if event.value == 2:
                raise ValueError(event.value)
            kept.append(event)
            if event.value == 3:
                for each in kept:
                    each.ack()

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3)
        await run.advance(seconds=LATER)
        assert [event.value for event in kept] == [1, 3]
        assert await unfinished(app) == 0


async def test_who_acknowledges_himself_and_awaits_on_his_way_out(app: faust.App) -> None:
    topic, begun = app.topic("numbers", key_type=str), list[int]()
    sums = app.Table("sums", key_type=str, value_type=int, default=int)

    @app.agent(topic)
    async def add(stream: Any) -> None:
        try:
            async for event in stream.noack().events():
                begun.append(event.value)
                sums["key"] += event.value
                if begun == [1, 2]:
                    raise ValueError
                event.ack()
        finally:
            for _ in range(10):  # what an interpreter needs to close the loop's iterator, and more
                await asyncio.sleep(0)

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3)
        await run.advance(seconds=LATER)
        assert (begun, sums["key"], await unfinished(app)) == ([1, 2, 2, 3], 6, 0)


async def test_what_was_left_to_be_acknowledged_by_a_return_counts_at_once(app: faust.App) -> None:
    topic, kept = app.topic("numbers", key_type=str), list[EventT[Any]]()
    last = app.Table("last", key_type=str, value_type=int)

    @app.agent(topic)
    async def keep(stream: Any) -> None:
        async for event in stream.noack().events():
            last["key"] = event.value
            kept.append(event)
            if event.value == 1:
                return
            if event.value == 3:
                for each in kept:
                    each.ack()

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3)
        await run.advance(seconds=LATER)
        assert (last["key"], await unfinished(app)) == (3, 0)


# -- cancellation --------------------------------------------------------------------------------


@BOTH_WAYS
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_all_instances_are_cancelled_at_once(
    app: faust.App, delivery: str, concurrency: int
) -> None:
    topic, done = app.topic("numbers"), app.topic("done")

    @app.agent(topic, delivery=delivery, concurrency=concurrency)
    async def work(stream: Any) -> None:
        async for number in stream:
            await done.send(value=number)
            await asyncio.sleep(1)

    async with in_memory(app) as run:
        for number in range(6):
            await run.send(topic, key=str(number), value=number)
        for _ in range(2):
            await run.advance(seconds=0.5)
            cancel_all(work)
        await run.advance(seconds=LATER)
        assert sorted(event.value for event in run.sent(done)) == list(range(6))


@BOTH_WAYS
async def test_an_agent_is_cancelled_while_it_gives_an_event_up(
    app: faust.App, delivery: str
) -> None:
    topic, heard, asked = app.topic("numbers"), list[int](), list[Any]()

    async def ask_somebody(event: EventT[Any], _: Exception) -> None:
        asked.append(event.value)
        await asyncio.sleep(1)

    @app.agent(topic, delivery=delivery, retries=NO_RETRIES, on_give_up=ask_somebody)
    async def work(stream: Any) -> None:
        async for number in stream:
            heard.append(number)
            if number == 1:
                raise ValueError(number)

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2)
        await run.advance(seconds=0.5)
        cancel_all(work)
        await run.advance(seconds=LATER)
        assert (heard, asked) == ([1, 1, 2], [1, 1])
        assert [letter.value for letter in run.dead_letters] == [b"1"]


@pytest.mark.parametrize("where", ["in the agent", "in a processor"])
async def test_awaiting_what_was_cancelled_is_a_failure_like_others(
    app: faust.App, where: str
) -> None:
    topic, heard = app.topic("numbers"), list[int]()

    async def ask(number: int) -> bool:
        heard.append(number)
        if number == 1:
            answer = asyncio.get_running_loop().create_future()
            answer.cancel()
            await answer
        return True

    @app.agent(topic, retries=Retries(attempts=2))
    async def work(stream: Any) -> None:
        async for number in stream.filter(ask) if where == "in a processor" else stream:
            if where == "in the agent":
                await ask(number)

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1)
        await run.advance(seconds=LATER)
        await send_numbers(run, topic, 2)
        await run.settled()
        assert heard == [1, 1, 2]
        [letter] = run.dead_letters
        assert letter.error_type.endswith("AwaitedCancelled")


@pytest.mark.parametrize("how", ["by itself", "at the end"])
async def test_who_says_nothing_of_a_cancellation_has_not_finished_the_event(
    app: faust.App, how: str
) -> None:
    topic = app.topic("numbers", key_type=str)
    begun = app.Table("begun", key_type=str, value_type=int, default=int)
    ended = app.Table("ended", key_type=str, value_type=int, default=int)

    @app.agent(topic)
    async def add(stream: Any) -> None:
        try:
            async for number in stream:
                begun["key"] += number
                await asyncio.sleep(LATER if how == "at the end" else 1)
                ended["key"] += number
        except asyncio.CancelledError:
            pass

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2)
        await run.advance(seconds=0.5)
        if how == "by itself":
            cancel_all(add)
            await run.advance(seconds=LATER)
            assert (begun["key"], ended["key"]) == (3, 3)
        state = run._state
    positions = [committed.position for committed in state._positions.values()]
    assert len(positions) == (how == "by itself")


async def test_an_agent_that_is_started_anew_reads_on(app: faust.App) -> None:
    topic = app.topic("numbers", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=int, default=int)

    @app.agent(topic)
    async def add(stream: Any) -> None:
        async for number in stream:
            sums["key"] += number
            await asyncio.sleep(1)

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3)
        await run.advance(seconds=0.5)
        await add.restart()
        await run.advance(seconds=LATER)
        assert (sums["key"], await unfinished(app)) == (6, 0)
        add.cancel()  # type: ignore[attr-defined] # Faust's interface lacks it
        await send_numbers(run, topic, 4)
        await run.advance(seconds=LATER)
        assert (sums["key"], await unfinished(app)) == (6, 1)
        await add.restart()
        await run.advance(seconds=LATER)
        assert (sums["key"], await unfinished(app)) == (10, 0)


# -- what an agent is given again ----------------------------------------------------------------


async def test_processors_are_added_once(app: faust.App) -> None:
    topic, heard = app.topic("numbers"), list[int]()

    @app.agent(topic)
    async def work(stream: Any) -> None:
        stream.add_processor(lambda number: number * 10)
        async for number in stream:
            heard.append(number)
            if heard == [10]:
                raise ValueError(number)

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2)
        await run.advance(seconds=LATER)
        assert sorted(heard) == [10, 10, 20]


@pytest.mark.parametrize("how", ["is cancelled", "fails between events"])
async def test_an_agent_that_repartitions_its_stream(app: faust.App, how: str) -> None:
    topic, heard = app.topic("numbers"), list[int]()
    sums = app.Table("sums", key_type=str, value_type=int, default=int)

    @app.agent(topic)
    async def add(stream: Any) -> None:
        async for event in stream.group_by(str, name="by", partitions=1).events():
            heard.append(event.value)
            sums["all"] += event.value
            if how == "fails between events":
                event.ack()
                if event.value == 2:
                    raise ValueError(event.value)
            await asyncio.sleep(1)

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2, 3)
        await run.advance(seconds=1.5)
        if how == "is cancelled":
            cancel_all(add)
        await run.advance(seconds=LATER)
        assert (sums["all"], await unfinished(app)) == (6, 0)


async def test_what_a_generator_sends_on_its_way_out_goes_with_the_event(app: faust.App) -> None:
    topic, done, failed = app.topic("numbers"), app.topic("done"), list[int]()

    async def refuse_once(number: int) -> None:
        if not failed:
            failed.append(number)
            raise ValueError(number)

    @app.agent(topic, sink=[refuse_once])
    async def work(stream: Any) -> AsyncIterator[int]:
        async for number in stream:
            try:
                yield number
            finally:
                await asyncio.sleep(0)
                await done.send(value=number)

    async with in_memory(app) as run:
        await send_numbers(run, topic, 1, 2)
        await run.advance(seconds=LATER)
        assert sorted(event.value for event in run.sent(done)) == [1, 2]


async def test_who_has_a_partition_alone_keeps_it_after_a_failure() -> None:
    app = new_app(f"memory://{uuid.uuid4().hex}", "postgresql://in.memory", partitions=2)
    topic, heard = app.topic("numbers"), list[int]()

    @app.agent(topic, isolated_partitions=True)
    async def work(stream: Any) -> None:
        async for number in stream:
            heard.append(number)
            if heard.count(number) == 1:
                raise ValueError(number)

    async with in_memory(app) as run:
        for number in range(2):
            await run.send(topic, value=number, partition=number)
        await run.advance(seconds=LATER)
        # What is read is found anew, as when somebody else begins to.
        app.topics.add(cast(Topic, app.topic("others").clone(is_iterator=True)))
        await run.advance(seconds=LATER)
        for number in range(2, 4):
            await run.send(topic, value=number, partition=number % 2)
        await run.advance(seconds=LATER)
        assert sorted(heard) == [0, 0, 1, 1, 2, 2, 3, 3]


# -- the loop ------------------------------------------------------------------------------------

CLOSED = """
import asyncio
import faust

app = faust.App("closed", broker="memory://", store="memory://tables")
topic = app.topic("numbers", key_type=str)
handed_out = asyncio.Event()

@app.agent(topic{delivery})
async def work(stream):
    async for _ in stream:
        handed_out.set()
        await asyncio.Event().wait()

async def main():
    await app.start()
    await topic.send(key="key", value=1)
    await handed_out.wait()
    raise SystemExit(7)

asyncio.run(main())
"""


@pytest.mark.parametrize("delivery", ["", ', delivery="shared"'])
async def test_an_agent_ends_with_the_loop_that_it_runs_in(tmp_path: Path, delivery: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLOSED.format(delivery=delivery)),
        env={**os.environ, "F_DATADIR": str(tmp_path)},
    )
    try:
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 7
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
