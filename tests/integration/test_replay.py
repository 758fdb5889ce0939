"""Dead letters that are replayed, through the outbox to the agent that gave them up."""

from __future__ import annotations

from collections import Counter
from typing import Any

import faust
import pytest
from redis.asyncio import Redis

from redfaust.postgres.database import Database
from redfaust.processing.dead_letters import ADDRESSEE_HEADER, DeadLetters
from redfaust.processing.retries import NO_RETRIES
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.outbox_streams import drained
from tests.integration.outbox_streams import running as relaying
from tests.integration.test_failures_agents import all_finished


async def replay_all(app: faust.App, database_url: str, **filters: str) -> None:
    """Replay what waits, and return when all of it has been processed."""
    assert isinstance(app.consumer, Consumer)
    database = await Database.connect(database_url)
    try:
        letters = DeadLetters(database)
        await letters.replay(await letters.waiting(**filters))
        async with relaying(database, app.consumer.broker):
            await drained(database)
        await eventually(lambda: all_finished(app))
    finally:
        await database.close()


async def test_an_event_is_replayed_to_the_agent_that_gave_it_up(
    any_broker_url: str, database_url: str
) -> None:
    app, mended = new_app(any_broker_url, database_url), False
    numbers = app.topic("numbers", key_type=str)
    seen: Counter[tuple[str, int]] = Counter()

    @app.agent(numbers, name="good")
    async def good(stream: Any) -> None:
        async for number in stream:
            seen["good", number] += 1

    @app.agent(numbers, name="bad", retries=NO_RETRIES)
    async def bad(stream: Any) -> None:
        async for number in stream:
            if number == 2 and not mended:
                raise ValueError("two")
            seen["bad", number] += 1

    async with running(app):
        for number in range(4):
            await numbers.send(key="key", value=number)
        await eventually(lambda: all_finished(app))
        mended = True
        await replay_all(app, database_url)
    assert seen == {(agent, number): 1 for agent in ("good", "bad") for number in range(4)}


async def test_an_event_of_an_agent_that_is_gone_is_replayed_to_all(
    database_url: str,
) -> None:
    broker_url = f"memory://{database_url.rpartition('/')[2]}"
    before = new_app(broker_url, database_url)

    @before.agent(before.topic("numbers", key_type=str), name="old", retries=NO_RETRIES)
    async def old(stream: Any) -> None:
        async for number in stream:
            raise ValueError(number)

    async with running(before):
        await before.topic("numbers", key_type=str).send(key="key", value=1)
        await eventually(lambda: all_finished(before))

    app, seen = new_app(broker_url, database_url), []

    @app.agent(app.topic("numbers", key_type=str), name="new")
    async def new(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    async with running(app):
        await replay_all(app, database_url)
    assert seen == [1]


async def test_other_applications_do_not_get_what_is_replayed(database_url: str) -> None:
    broker_url = f"memory://{database_url.rpartition('/')[2]}"
    apps = [new_app(broker_url, database_url, name=name) for name in ("one", "two")]
    mended = False
    seen: Counter[tuple[str, int]] = Counter()

    def install(app: faust.App) -> None:
        @app.agent(app.topic("numbers", key_type=str), name="same", retries=NO_RETRIES)
        async def same(stream: Any) -> None:
            async for number in stream:
                if app.conf.id == "two" and not mended:
                    raise ValueError(number)
                seen[app.conf.id, number] += 1

    one, two = apps
    for app in apps:
        install(app)
    async with running(one), running(two):
        await one.topic("numbers", key_type=str).send(key="key", value=1)
        await eventually(lambda: all_finished(two))
        mended = True
        await replay_all(two, database_url)
        await eventually(lambda: all_finished(one))
    assert seen == {("one", 1): 1, ("two", 1): 1}


@pytest.mark.parametrize("delivery", ["ordered", "shared"])
async def test_nobody_but_redfaust_addresses_an_event_to_an_agent(
    empty_valkey_url: str, database_url: str, delivery: str
) -> None:
    app = new_app(empty_valkey_url, database_url)
    seen: list[int] = []

    @app.agent(app.topic("numbers", key_type=str), delivery=delivery)
    async def see(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    async with running(app), Redis.from_url(empty_valkey_url) as stranger:
        for number, addressee in enumerate((b"test/see", b"test/other", b"other/see", b"junk")):
            fields = {"_v": str(number), f"_h:{ADDRESSEE_HEADER}": addressee}
            await stranger.xadd("{numbers:0}", fields)  # type: ignore[arg-type]
        await eventually(lambda: len(seen) == 4)
    assert sorted(seen) == [0, 1, 2, 3]
