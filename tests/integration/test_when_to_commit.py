"""What is finished is committed at once, unless more of it is to be expected."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from uuid import uuid4

import faust
import pytest

from redfaust.brokers.broker import Broker, Outgoing
from redfaust.transports.consumer import Consumer
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running


@pytest.fixture
def app() -> faust.App:
    return new_app(f"memory://{uuid4().hex}", partitions=1)


async def test_a_commit_has_company_while_events_wait_for_the_agent(
    app: faust.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, wanted = app.topic("numbers"), []
    may_go_on, news = asyncio.Semaphore(0), asyncio.Event()

    @app.agent(numbers)
    async def work(stream: Any) -> None:
        async for _ in stream:
            await may_go_on.acquire()

    commit_timer = cast("Consumer", app.consumer).commits.commit_timer
    want = commit_timer.want

    def noted(*, at_once: bool = False) -> None:
        wanted.append(at_once)
        news.set()
        want(at_once=at_once)

    async with running(app):
        broker: Broker = app.transport.broker  # type: ignore[attr-defined] # ours
        await broker.append([Outgoing("numbers", b"%d" % number, None) for number in range(3)])
        monkeypatch.setattr(commit_timer, "want", noted)
        for _ in range(3):
            may_go_on.release()
            await asyncio.wait_for(news.wait(), PATIENCE)
            news.clear()
    assert wanted[:3] == [False, True, True]


async def test_who_waits_for_news_is_not_disturbed_by_commits(
    app: faust.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, woken = app.topic("numbers"), 0

    @app.agent(numbers)
    async def work(stream: Any) -> None:
        async for _ in stream:
            pass

    async def wake() -> None:
        nonlocal woken
        woken += 1

    async with running(app):
        broker: Broker = app.transport.broker  # type: ignore[attr-defined] # ours
        monkeypatch.setattr(broker, "wake", wake)
        for number in range(3):
            [place] = await broker.append([Outgoing("numbers", b"%d" % number, None)])
            committed = app.consumer._committed_offset  # type: ignore[attr-defined]
            await eventually(lambda: (committed.get(place.tp) or 0) > place.offset)  # noqa: B023
        assert not woken
