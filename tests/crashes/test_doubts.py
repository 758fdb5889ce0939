"""A commit whose answer is lost, and a worker that cannot find out what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from redfaust import failpoints
from tests.crashes.oracle import Oracle
from tests.crashes.scenario import PATIENCE, Place, living
from tests.crashes.ways import Trouble, trouble, ways_to
from tests.proxy import Proxy

WHICH = 3
"""The commit that it happens to: what comes before and after it has to be right as well."""


class Doubt:
    """A commit that has happened or not, and a database that cannot be asked."""

    def __init__(self, way: Proxy, *, happened: bool) -> None:
        self._way = way
        self._server = way.target
        self._happened = happened
        self._began = asyncio.Event()
        self.begun_anew = asyncio.Event()
        """Partitions were taken away since."""
        self._lose = failpoints.at("commit.written", self._begin, time=WHICH)

    def point(self, name: str) -> None:
        """In place of :data:`redfaust.failpoints.point`."""
        self._lose(name)
        if name == "rebalance.revoked" and self._began.is_set():
            self.begun_anew.set()

    def _begin(self) -> None:
        if self._happened:
            trouble(Trouble.ANSWER_LOST, self._way)
            self._way.shut()
        else:
            self._way.lead_to(None)
        self._way.refused.clear()
        self._began.set()

    def resolve(self) -> None:
        """Have the database answer again."""
        self._way.lead_to(self._server)

    async def is_felt(self) -> None:
        """Return when somebody has tried in vain to find out."""
        async with asyncio.timeout(PATIENCE):
            await self._began.wait()
            await self._way.refused.wait()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops, or has to give partitions away, does not wait long for a commit."""
    monkeypatch.setattr("redfaust.transports.commits.DRAIN_FOR", 0.1)
    monkeypatch.setattr("redfaust.transports.commits.COMMIT_FOR", 0.1)


@asynccontextmanager
async def doubtful(
    place: Place, monkeypatch: pytest.MonkeyPatch, *, happened: bool
) -> AsyncIterator[tuple[Place, Doubt]]:
    """The way to the servers, and the doubt that comes up there."""
    async with ways_to(place) as (through, proxies):
        doubt = Doubt(proxies["postgres"], happened=happened)
        monkeypatch.setattr(failpoints, "point", doubt.point)
        yield through, doubt


HAPPENED = pytest.mark.parametrize("happened", [True, False], ids=["happened", "did not happen"])
BROKERS = pytest.mark.parametrize("place", ["redis", "memory"], indirect=True)


@HAPPENED
@BROKERS
@pytest.mark.usefixtures("hurry")
async def test_partitions_move_while_a_commit_is_in_doubt(
    place: Place, oracle: Oracle, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    async with (
        doubtful(place, monkeypatch, happened=happened) as (through, doubt),
        living(through) as app,
    ):
        await doubt.is_felt()
        app.consumer._membership.start_over()  # type: ignore[attr-defined]
        await asyncio.wait_for(doubt.begun_anew.wait(), PATIENCE)
        doubt.resolve()
        await oracle.all_done()
    await oracle.still_all_done()


@HAPPENED
@BROKERS
@pytest.mark.usefixtures("hurry")
async def test_a_worker_stops_while_a_commit_is_in_doubt(
    place: Place, oracle: Oracle, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    async with doubtful(place, monkeypatch, happened=happened) as (through, doubt):
        async with living(through):
            await doubt.is_felt()
        doubt.resolve()
        async with living(through):
            await oracle.all_done()
    await oracle.still_all_done()


@HAPPENED
@BROKERS
async def test_the_database_answers_again(
    place: Place, oracle: Oracle, monkeypatch: pytest.MonkeyPatch, happened: bool
) -> None:
    async with (
        doubtful(place, monkeypatch, happened=happened) as (through, doubt),
        living(through),
    ):
        await doubt.is_felt()
        doubt.resolve()
        await oracle.all_done()
    await oracle.still_all_done()
