"""When a commit is due."""

from __future__ import annotations

import asyncio

import pytest

from redfaust.processing import pace
from redfaust.processing.pace import MAX_BYTES, MAX_EVENTS, SHARE, SHORTEST, Pace

PATIENCE = 10.0
"""Seconds after which what should be due counts as not being so."""


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, which take no time."""
    made: list[float] = []
    timeout = asyncio.timeout

    def no_timeout(seconds: float) -> asyncio.Timeout:
        made.append(seconds)
        return timeout(0)

    monkeypatch.setattr(pace.asyncio, "timeout", no_timeout)  # type: ignore[attr-defined]
    return made


async def is_due(pace: Pace) -> bool:
    """Whether a commit is due without anything else happening."""
    due = asyncio.create_task(pace.due())
    for _ in range(10):
        await asyncio.sleep(0)
    due.cancel()
    await asyncio.wait({due})
    return not due.cancelled()


async def test_nothing_is_committed_while_there_is_nothing(pauses: list[float]) -> None:
    pace = Pace(1.0)
    assert not await is_due(pace)
    pace.want()
    assert await is_due(pace)
    assert not await is_due(pace)
    assert pauses == [SHORTEST]


async def test_a_pause_grows_with_the_commit_before_it_within_bounds(pauses: list[float]) -> None:
    pace = Pace(1.0)
    for seconds in (0.0, 0.01, 0.02, 0.25, 5.0, 0.001):
        pace.took(seconds)
        pace.want()
        await pace.due()
    assert pauses == [SHORTEST, SHARE * 0.01, SHARE * 0.02, 0.75, SHORTEST, SHARE * 0.001]


@pytest.mark.parametrize(("events", "size"), [(MAX_EVENTS + 1, 0), (1, MAX_BYTES + 1)])
async def test_too_much_to_wait_for_is_committed_at_once(events: int, size: int) -> None:
    pace = Pace(1000.0)
    pace.took(100.0)
    pace.want()
    assert not await is_due(pace)
    pace.delivered(MAX_EVENTS, MAX_BYTES)
    assert not await is_due(pace)
    pace.delivered(events, size)
    await asyncio.wait_for(pace.due(), PATIENCE)
    pace.want()
    assert not await is_due(pace)


async def test_what_nothing_else_is_expected_with_is_committed_at_once() -> None:
    pace = Pace(1000.0)
    pace.took(100.0)
    pace.want(at_once=True)
    assert await is_due(pace)
    pace.want()
    assert not await is_due(pace)
    pace.want(at_once=True)
    assert await is_due(pace)
