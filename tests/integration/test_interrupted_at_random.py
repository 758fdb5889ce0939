"""Agents of every shape that fail, are cancelled, started anew and lose partitions, at random: each
event counts once, in the order of its key."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import faust
import pytest
from faust.types import TP, EventT

from redfaust.processing.retries import Retries
from redfaust.testing import in_memory
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import new_app

PARTITIONS = 3
MOST_INTERRUPTIONS = 25
ROUNDS = 12

Work = Callable[[EventT[Any]], Awaitable[None]]
Shape = Callable[[Any, Work, random.Random], Any]


async def one_loop(stream: Any, work: Work, _: random.Random) -> None:
    async for event in stream.events():
        await work(event)


async def a_loop_for_each(stream: Any, work: Work, chance: random.Random) -> None:
    while chance.random() < 0.9:
        async for event in stream.events():
            await work(event)
            break


async def loops_within(stream: Any, work: Work, chance: random.Random) -> None:
    async for event in stream.events():
        await work(event)
        if chance.random() < 0.3:
            async for another in stream.events():
                await work(another)
                if chance.random() < 0.5:
                    break


async def batches(stream: Any, work: Work, _: random.Random) -> None:
    async for events in stream.take_events(4, within=0.2):
        for event in events:
            await work(event)


async def a_loop_for_each_batch(stream: Any, work: Work, _: random.Random) -> None:
    while True:
        async for events in stream.take_events(4, within=0.2):
            for event in events:
                await work(event)
            break


async def who_acknowledges_himself(stream: Any, work: Work, _: random.Random) -> None:
    async for event in stream.noack().events():
        await work(event)
        event.ack()


async def a_generator(stream: Any, work: Work, _: random.Random) -> Any:
    async for event in stream.events():
        try:
            await work(event)
            yield event.value
        finally:
            await asyncio.sleep(0)


SHAPES = [
    one_loop,
    a_loop_for_each,
    loops_within,
    batches,
    a_loop_for_each_batch,
    who_acknowledges_himself,
    a_generator,
]


class Trouble:
    """Comes over agents, as long as it lasts."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._left = MOST_INTERRUPTIONS

    async def maybe(self) -> None:
        """Fail, be cancelled, await what was cancelled, wait too long, or do nothing of it."""
        rolled = self._chance.random()
        if rolled < 0.12 and self._left:
            self._left -= 1
            await self._choose(rolled)
        elif rolled < 0.4:
            await asyncio.sleep(self._chance.choice([0, 0, 0.01, 0.1]))

    async def _choose(self, rolled: float) -> None:
        if rolled < 0.05:
            raise ValueError
        if rolled < 0.08:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        elif rolled < 0.1:
            answer = asyncio.get_running_loop().create_future()
            answer.cancel()
            await answer
        else:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(1)


async def interrupt(app: faust.App, agent: Any, chance: random.Random) -> None:
    rolled = chance.random()
    if rolled < 0.2:
        for actor in agent._actors:
            actor.actor_task.cancel()
    elif rolled < 0.3:
        await agent.restart()
    elif rolled < 0.4:
        consumer, partition = app.consumer, chance.randrange(PARTITIONS)
        assert isinstance(consumer, Consumer)
        tps = frozenset({TP("numbers", partition), TP("seen", partition)})
        await consumer.rebalance.hand_over(tps)
        await asyncio.sleep(0.1)
        await consumer.rebalance.gain(tps)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
async def test_each_event_counts_once(shape: Shape, seed: int) -> None:
    chance = random.Random(f"{shape.__name__}/{seed}")
    url = f"memory://{uuid.uuid4().hex}"
    app = new_app(url, "postgresql://in.memory", partitions=PARTITIONS)
    numbers, seen = app.topic("numbers", key_type=str), app.topic("seen", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=int, default=int)
    orders = app.Table("orders", key_type=str, value_type=list, default=list)
    trouble = Trouble(chance)

    async def work(event: EventT[Any]) -> None:
        key, value = event.key, event.value
        sums[key] += value
        await trouble.maybe()
        orders[key] = [*orders[key], value]
        await seen.send(key=key, value=value)
        await trouble.maybe()

    def function(stream: Any) -> Any:
        return shape(stream, work, chance)

    retries = Retries(attempts=2 * MOST_INTERRUPTIONS, delay=0.05, factor=1.0)
    agent = app.agent(numbers, concurrency=chance.choice([1, 3]), retries=retries)(function)
    sent: dict[str, list[int]] = defaultdict(list)
    async with in_memory(app) as run:
        for number in range(5 * ROUNDS):
            key = str(chance.randrange(5))
            sent[key].append(number)
            await run.send(numbers, key=key, value=number)
            if number % 5 == 4:
                await asyncio.sleep(chance.choice([0, 0.03, 0.3]))
                await interrupt(app, agent, chance)
        await run.advance(minutes=5)
        passed_on: dict[str, list[int]] = defaultdict(list)
        for event in run.sent(seen):
            passed_on[event.key].append(event.value)
        assert dict(orders.items()) == sent == passed_on
        assert dict(sums.items()) == {key: sum(values) for key, values in sent.items()}
        status = await app.transport.broker.status("test", "numbers")  # type: ignore[attr-defined]
        assert [partition.lag for partition in status] == [0] * PARTITIONS
        assert list(run.dead_letters) == []
