"""What Faust applications rely on, held against every broker with every store."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import faust
import pytest

from redfaust.brokers.broker import Broker
from redfaust.brokers.capabilities import Capability
from redfaust.processing.retries import Retries
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.stores import StoreCapability

KEYS = [f"key-{n}" for n in range(5)]


@dataclass(frozen=True)
class Place:
    """A broker and a store."""

    broker: str
    store: str

    def app(self) -> faust.App:
        """One worker of the application that lives there."""
        return new_app(self.broker, self.store)


@pytest.fixture
def place(every_broker_url: str, every_store_url: str) -> Place:
    if every_broker_url.startswith("kafka") and not every_store_url.startswith("postgresql"):
        pytest.skip("kafka: without Postgres it is Faust's own driver that works with it")
    return Place(every_broker_url, every_store_url)


async def send(topic: Any, *numbers: int, keys: list[str] = KEYS) -> None:
    """Send numbers, each to all keys, in their order; return when they are there."""
    sent = [await topic.send(key=key, value=number) for number in numbers for key in keys]
    await asyncio.gather(*sent)


async def lag(app: faust.App, topic: str = "numbers", group: str = "test") -> int:
    """How many events of a topic are not finished."""
    broker = cast("Broker", app.transport.broker)  # type: ignore[attr-defined] # ours
    return sum(partition.lag for partition in await broker.status(group, topic))


class Adding:
    """Adds numbers up by key, and remembers in which order they came."""

    def __init__(self, place: Place, *, concurrency: int = 1) -> None:
        self.app = place.app()
        self.numbers = self.app.topic("numbers", key_type=str)
        self.sums = self.app.Table("sums", key_type=str, value_type=int, default=int)
        self.seen: dict[str, list[int]] = defaultdict(list)

        retries = Retries(attempts=2, delay=0.01)

        @self.app.agent(self.numbers, concurrency=concurrency, retries=retries)
        async def add(stream: Any) -> None:
            async for key, number in stream.items():
                self.seen[key].append(number)
                self.sums[key] += number
                await self.look_at(number)

    async def look_at(self, number: int) -> None:
        """What else is done for a number, before it is finished."""

    async def finished(self) -> None:
        """Wait until nothing is left to do."""

        await eventually(lambda: all_finished(self.app))

    def totals(self) -> Mapping[str, int]:
        """The table as it is now."""
        return dict(self.sums.items())


class Failing(Adding):
    """Never gets over 2, and over 3 at the second attempt."""

    async def look_at(self, number: int) -> None:
        attempts = sum(seen.count(number) for seen in self.seen.values())
        if number == 2 or (number == 3 and attempts < 2):
            raise ValueError(number)


async def test_tables_and_positions_outlive_the_worker(place: Place) -> None:
    """And the events of a key come in order, each once."""
    for round_ in (1, 2):
        adding = Adding(place)
        async with running(adding.app):
            numbers = range(round_ * 10, round_ * 10 + 10)
            await send(adding.numbers, *numbers)
            await adding.finished()
            assert adding.seen == {key: list(numbers) for key in KEYS}
            assert adding.totals() == dict.fromkeys(KEYS, sum(range(10, round_ * 10 + 10)))


async def test_an_event_that_fails_is_tried_again_and_stops_nobody(place: Place) -> None:
    adding = Failing(place)
    async with running(adding.app):
        await adding.numbers.send(key="key", value=b"\xffnot json", value_serializer="raw")
        await send(adding.numbers, 1, 2, 3, 4, keys=["key"])
        await adding.finished()
        assert adding.seen == {"key": [1, 2, 2, 3, 3, 4]}


async def interrupted(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, by: type[Adding] = Adding
) -> Adding:
    """A worker that goes on where another has left one event unfinished, and others finished."""
    monkeypatch.setattr("redfaust.transports.commits.DRAIN_FOR", 0.1)
    never = asyncio.Event()

    class Waiting(Adding):
        async def look_at(self, number: int) -> None:
            if number == 1:
                await never.wait()

    first = Waiting(place, concurrency=8)
    async with running(first.app):
        await send(first.numbers, 1, keys=["held"])
        await send(first.numbers, 2)
        await eventually(lambda: first.seen == {"held": [1]} | {key: [2] for key in KEYS})
    return by(place)


async def test_the_position_does_not_pass_an_unfinished_event(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    adding = await interrupted(place, monkeypatch)
    async with running(adding.app):
        await adding.finished()
    assert adding.seen["held"] == [1]


@pytest.mark.needs(StoreCapability.EXACTLY_ONCE)
async def test_an_event_changes_a_table_once_however_often_it_is_delivered(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    adding = await interrupted(place, monkeypatch, by=Failing)
    async with running(adding.app):
        await send(adding.numbers, 3, keys=["fails"])
        await adding.finished()
        assert adding.seen["fails"] == [3, 3]
        assert adding.totals() == {"held": 1, "fails": 3} | dict.fromkeys(KEYS, 2)


async def test_streams_derived_from_one_topic_do_not_disturb_each_other(place: Place) -> None:
    app = place.app()
    numbers = app.topic("numbers", key_type=str)
    counts = app.Table("counts", key_type=str, value_type=int, default=int)
    batches: list[list[int]] = []

    async def last_digit(number: int) -> str:
        return str(number % 10)

    @app.agent(numbers)
    async def count(stream: Any) -> None:
        async for number in stream.group_by(last_digit, name="digit"):
            counts[str(number % 10)] += 1

    @app.agent(numbers)
    async def collect(stream: Any) -> None:
        async for batch in stream.take(10, within=0.1):
            batches.append(list(batch))

    async with running(app):
        await send(numbers, *range(30), keys=["key"])
        await eventually(lambda: dict(counts.items()) == {str(n): 3 for n in range(10)})
        await eventually(lambda: sum(map(len, batches)) == 30)
    assert [number for batch in batches for number in batch] == list(range(30))


async def test_a_second_worker_takes_its_share_and_then_the_rest(place: Place) -> None:
    first, second = Adding(place), Adding(place)

    def owned(adding: Adding) -> int:
        consumer = cast("Consumer", adding.app.consumer)
        return sum(tp.topic == "numbers" for tp in consumer.assignment())

    async with running(first.app):
        await send(first.numbers, 1)
        await first.finished()
        await asyncio.wait_for(second.app.start(), PATIENCE)
        await eventually(lambda: owned(first) == owned(second) == 2)
        await send(first.numbers, 2)
    try:
        await eventually(lambda: owned(second) == 4)
        await send(second.numbers, 3)
        await eventually(lambda: second.totals() == dict.fromkeys(KEYS, 6))
        await second.finished()
    finally:
        await asyncio.wait_for(second.app.stop(), PATIENCE)
    assert {key: first.seen[key] + second.seen[key] for key in KEYS} == {
        key: [1, 2, 3] for key in KEYS
    }


@pytest.mark.needs(Capability.SHARED_DELIVERY)
async def test_shared_events_go_to_whoever_is_free(place: Place) -> None:
    """Two workers with four instances each, all of them on events of one key."""
    done: list[int] = []
    together = asyncio.Barrier(8)
    apps = [place.app() for _ in range(2)]
    letters = [app.topic("letters", key_type=str) for app in apps]

    async def work(stream: Any) -> None:
        async for number in stream:
            await together.wait()
            done.append(number)

    for app, topic in zip(apps, letters, strict=True):
        app.agent(topic, name="mail", delivery="shared", concurrency=4)(work)
    async with running(apps[0]), running(apps[1]):
        await send(letters[0], *range(24), keys=["one"])
        await eventually(lambda: len(done) == 24)
        await eventually(lambda: _nothing_waits(apps[0]))
    assert sorted(done) == list(range(24))


async def _nothing_waits(app: faust.App) -> bool:
    return await lag(app, "letters", "test/mail") == 0
