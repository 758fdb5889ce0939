"""When a commit is due."""

from __future__ import annotations

import asyncio

import pytest

from redfaust.processing import commit_timer
from redfaust.processing.commit_timer import MAX_BYTES, MAX_EVENTS, SHARE, SHORTEST, CommitTimer

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

    monkeypatch.setattr(commit_timer.asyncio, "timeout", no_timeout)  # type: ignore[attr-defined]
    return made


async def is_due(commit_timer: CommitTimer) -> bool:
    """Whether a commit is due without anything else happening."""
    due = asyncio.create_task(commit_timer.due())
    for _ in range(10):
        await asyncio.sleep(0)
    due.cancel()
    await asyncio.wait({due})
    return not due.cancelled()


async def test_nothing_is_committed_while_there_is_nothing(pauses: list[float]) -> None:
    commit_timer = CommitTimer(1.0)
    assert not await is_due(commit_timer)
    commit_timer.want()
    assert await is_due(commit_timer)
    assert not await is_due(commit_timer)
    assert pauses == [SHORTEST]


async def test_a_pause_grows_with_the_commit_before_it_within_bounds(pauses: list[float]) -> None:
    commit_timer = CommitTimer(1.0)
    for seconds in (0.0, 0.01, 0.02, 0.25, 5.0, 0.001):
        commit_timer.took(seconds)
        commit_timer.want()
        await commit_timer.due()
    assert pauses == [SHORTEST, SHARE * 0.01, SHARE * 0.02, 0.75, SHORTEST, SHARE * 0.001]


@pytest.mark.parametrize(("events", "size"), [(MAX_EVENTS + 1, 0), (1, MAX_BYTES + 1)])
async def test_too_much_to_wait_for_is_committed_at_once(events: int, size: int) -> None:
    commit_timer = CommitTimer(1000.0)
    commit_timer.took(100.0)
    commit_timer.want()
    assert not await is_due(commit_timer)
    commit_timer.delivered(MAX_EVENTS, MAX_BYTES)
    assert not await is_due(commit_timer)
    commit_timer.delivered(events, size)
    await asyncio.wait_for(commit_timer.due(), PATIENCE)
    commit_timer.want()
    assert not await is_due(commit_timer)


async def test_what_nothing_else_is_expected_with_is_committed_at_once() -> None:
    commit_timer = CommitTimer(1000.0)
    commit_timer.took(100.0)
    commit_timer.want(at_once=True)
    assert await is_due(commit_timer)
    commit_timer.want()
    assert not await is_due(commit_timer)
    commit_timer.want(at_once=True)
    assert await is_due(commit_timer)
