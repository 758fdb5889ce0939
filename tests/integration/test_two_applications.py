"""Applications of different ids on the same servers have nothing to do with each other."""

from __future__ import annotations

from typing import Any

import faust

from redfaust.processing.retries import Retries
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_batches import fetch
from tests.integration.test_failures_agents import all_finished

EVENTS = 200


class Counting:
    """Counts events in a table, fails at some of them, and can be stopped and started again."""

    def __init__(self, broker_url: str, database_url: str, name: str, *, fails_at: int) -> None:
        self.name = name
        self._urls = broker_url, database_url
        self._fails_at = fails_at
        self.app, self.numbers = self.new()

    def new(self) -> tuple[faust.App, Any]:
        app = new_app(*self._urls, name=self.name)
        numbers = app.topic("numbers", key_type=str)
        counts = app.Table("counts", key_type=str, default=int, value_type=int)

        @app.agent(numbers, name="count", retries=Retries(attempts=2, delay=0.01))
        async def count(stream: Any) -> None:
            async for key, number in stream.items():
                counts[key] += 1
                if number == self._fails_at:
                    raise ValueError(self.name)

        self.app, self.numbers = app, numbers
        return app, numbers


async def test_each_processes_everything_and_touches_nothing_of_the_other(
    any_broker_url: str, database_url: str
) -> None:
    one = Counting(any_broker_url, database_url, "one", fails_at=13)
    two = Counting(any_broker_url, database_url, "two", fails_at=77)

    async def send(numbers: range) -> None:
        for number in numbers:
            await one.numbers.send(key=f"key-{number % 10}", value=number)

    async with running(one.app):
        async with running(two.app):
            await send(range(EVENTS // 2))
            for each in (one, two):
                await eventually(lambda each=each: all_finished(each.app))  # type: ignore[misc]
            owned_partitions = dict(two.app.consumer.owned_partitions)  # type: ignore[attr-defined]
            one.app.consumer.rebalance.undo()  # type: ignore[attr-defined]
            await eventually(lambda: bool(one.app.consumer.owned_partitions))  # type: ignore[attr-defined]
            assert two.app.consumer.owned_partitions == owned_partitions  # type: ignore[attr-defined]
        # The other one has gone, and its partitions are nobody else's.
        await send(range(EVENTS // 2, EVENTS))
        await eventually(lambda: all_finished(one.app))
        group_state = await one.app.consumer.broker.group_state("two")  # type: ignore[attr-defined]
        assert not group_state.assignment.members
        two.new()
        async with running(two.app):
            await eventually(lambda: all_finished(two.app))
    for name in ("one", "two"):
        rows = await fetch(database_url, f"SELECT sum(value::int) FROM {name}.counts")
        assert rows == [(EVENTS - 1,)]
        letters = await fetch(
            database_url, f"SELECT error FROM redfaust.dead_letters WHERE app = '{name}'"
        )
        assert letters == [(name,)]
