"""What an event costs is guarded by what does not depend on the machine: how many functions are
called for it."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from types import FrameType
from typing import Any

import faust
import pytest

from redfaust.processing import event_stream
from tests.bench.workloads import (
    Countdown,
    Servers,
    add_counting_agent,
    add_looking_agent,
    add_sending_agent,
    event,
    new_app,
)
from tests.integration.faust_apps import running

ROUNDS = 3
EVENTS = 4000
KEYS = 100

CONSUMING = 16
"""Calls of functions in Python for an event that an agent looks at. An agent's own function counts
each time that it goes on."""
COUNTING = 26
"""For one that is counted in a table, exactly once."""
COUNTING_IN_MEMORY = 77
"""The same in a table in memory, with its changelog."""
SENDING = 51
"""For one for which another one is sent, at least once."""
SENDING_ONCE = 61
"""The same exactly once."""

GROWTH = 1.2
"""What is added has to be worth it: more than a fifth has to be written above, and why."""


@pytest.fixture(autouse=True)
def clockless(monkeypatch: pytest.MonkeyPatch) -> None:
    """How often others run depends on the machine, and here on being watched."""
    monkeypatch.setattr(event_stream, "YIELD_AFTER", 60.0)


async def test_an_agent_is_given_an_event_with_few_calls() -> None:
    assert await fewest_calls("memory://", add_looking_agent) < CONSUMING * GROWTH


async def test_an_event_is_counted_with_few_calls(database_url: str) -> None:
    assert await fewest_calls(database_url, add_counting_agent) < COUNTING * GROWTH


async def test_an_event_is_counted_in_memory_with_few_calls() -> None:
    assert await fewest_calls("memory://", add_counting_agent) < COUNTING_IN_MEMORY * GROWTH


async def test_an_event_is_sent_with_few_calls() -> None:
    assert await fewest_calls("memory://", add_sending_agent) < SENDING * GROWTH


async def test_an_event_is_sent_exactly_once_with_few_calls(database_url: str) -> None:
    assert await fewest_calls(database_url, add_sending_agent) < SENDING_ONCE * GROWTH


def an_app(store: str) -> tuple[faust.App, Countdown]:
    servers = Servers(f"memory://{uuid.uuid4().hex}", store, EVENTS)
    return new_app(servers, store), Countdown(EVENTS)


async def fewest_calls(store: str, add_agent: Callable[[faust.App, Countdown], None]) -> float:
    """Of some rounds: the slower the machine, the more commits there are meanwhile."""
    found = []
    for _ in range(ROUNDS):
        app, countdown = an_app(store)
        add_agent(app, countdown)
        found.append(await calls_per_event(app, countdown))
    return min(found)


async def calls_per_event(app: faust.App, countdown: Countdown) -> float:
    """From where an event is appended until it is committed."""
    broker: Any = app.transport.broker  # type: ignore[attr-defined]
    calls = 0

    def count(frame: FrameType, kind: str, _: object) -> None:
        nonlocal calls
        calls += kind == "call"

    async with running(app):
        batches = [[event(n, KEYS) for n in range(at, at + 500)] for at in range(0, EVENTS, 500)]
        sys.setprofile(count)
        try:
            for batch in batches:
                await broker.append(batch)
            await countdown.done.wait()
            await app.consumer.commit()
        finally:
            sys.setprofile(None)
    return calls / EVENTS
