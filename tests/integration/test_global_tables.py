"""Tables of which each worker has all rows."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from redis.asyncio import Redis

from redfaust.brokers.broker import Broker, Retention
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.rights import as_administrator


class Prices:
    """An application that keeps prices for all to see, and counts in a table of its own."""

    def __init__(self, broker: str, store: str) -> None:
        self.app = new_app(broker, store, partitions=4)
        self.offers = self.app.topic("offers", key_type=str)
        self.prices: Any = self.app.GlobalTable("prices", key_type=str, value_type=int, default=int)
        self.seen: list[int] = []

        @self.app.agent(self.offers)
        async def offer(stream: Any) -> None:
            async for key, amount in stream.items():
                if amount == 0:
                    del self.prices[key]
                    continue
                self.prices[key] += amount
                self.seen.append(self.prices[key])
                if amount < 0:
                    raise ValueError("nobody pays for taking it")

    @property
    def broker(self) -> Broker:
        broker: Broker = self.app.transport.broker  # type: ignore[attr-defined] # ours
        return broker

    async def offer(self, **amounts: int) -> None:
        for key, amount in amounts.items():
            await (await self.offers.send(key=key, value=amount))
        await eventually(lambda: all_finished(self.app, "offers"))

    async def shows(self, **amounts: int) -> None:
        await eventually(lambda: dict(self.prices.items()) == amounts)


@pytest.fixture(params=["memory", "postgresql"])
def store(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    url: str = request.getfixturevalue("database_url")
    return url


async def test_all_workers_have_all_rows(any_broker_url: str, store: str) -> None:
    first, second = Prices(any_broker_url, store), Prices(any_broker_url, store)
    async with running(first.app):
        await first.offer(tea=1, milk=2, beer=3, wine=4)
        async with running(second.app):
            await second.shows(tea=1, milk=2, beer=3, wine=4)
            await second.offer(tea=10, milk=20, beer=30, wine=40)
            for each in (first, second):
                await each.shows(tea=11, milk=22, beer=33, wine=44)
            await first.offer(beer=0, wine=0)
            for each in (first, second):
                await each.shows(tea=11, milk=22)
        await first.offer(tea=100)
        await first.shows(tea=111, milk=22)
        retentions = await first.broker.retentions()
        assert retentions["test-prices-changelog"] == Retention(compacted=True)
    again = Prices(any_broker_url, store)
    async with running(again.app):
        await again.shows(tea=111, milk=22)


async def test_workers_that_began_before_any_row_have_all_rows(
    any_broker_url: str, store: str
) -> None:
    first, second = Prices(any_broker_url, store), Prices(any_broker_url, store)
    async with running(first.app), running(second.app):
        await first.offer(tea=1, milk=2, beer=3, wine=4)
        for each in (first, second):
            await each.shows(tea=1, milk=2, beer=3, wine=4)


async def test_an_event_finds_what_the_one_before_has_written(store: str) -> None:
    prices = Prices(f"memory://{uuid.uuid4().hex}", store)
    async with running(prices.app):
        for _ in range(200):
            await prices.offers.send(key="tea", value=1)
        await eventually(lambda: len(prices.seen) == 200)
        await prices.shows(tea=200)
    assert prices.seen == list(range(1, 201))


async def test_what_a_failed_event_wrote_vanishes(database_url: str) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    prices = Prices(url, database_url)
    async with running(prices.app):
        await prices.offer(tea=5)
        await prices.offer(tea=-2)
        assert 3 in prices.seen
        await prices.offer(tea=1)
        await prices.shows(tea=6)
    again = Prices(url, database_url)
    async with running(again.app):
        await again.shows(tea=6)


async def test_it_may_be_written_outside_of_events(database_url: str) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    first, second = Prices(url, database_url), Prices(url, database_url)
    async with running(first.app), running(second.app):
        first.prices["tea"] = 7
        assert first.prices["tea"] == 7
        await second.shows(tea=7)


async def test_a_strangers_entry_on_the_changelog_stops_nobody(
    empty_valkey_url: str, database_url: str
) -> None:
    first = Prices(empty_valkey_url, database_url)
    async with running(first.app), Redis.from_url(as_administrator(empty_valkey_url)) as stranger:
        await first.offer(tea=1)
        for partition in range(4):
            fields = {"_k": '{"a": 1}', "_v": "5"}
            await stranger.xadd(f"{{test-prices-changelog:{partition}}}", fields)  # type: ignore[arg-type]
        await first.offer(tea=1, milk=2)
        await first.shows(tea=2, milk=2)
    second = Prices(empty_valkey_url, database_url)
    async with running(second.app):
        await second.shows(tea=2, milk=2)
        await second.offer(tea=1)
        await second.shows(tea=3, milk=2)
