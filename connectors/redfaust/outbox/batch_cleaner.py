"""Deletes batches that nobody needs any more.

A published batch is kept for a while, and until every consumer group has passed it: should the
broker lose its entries, they are appended again from here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from faust.types import TP

from redfaust import failpoints
from redfaust.brokers.broker import Place
from redfaust.outbox.batch_publisher import BatchPublisher, Logs
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load

KEEP_FOR = 60.0
"""Seconds for which a published batch is kept at least. A broker that goes on without another one
has to be found out within them."""
PAGE = 500
"""Batches of a lane that are looked at in one go."""
PLACES = 2_000
"""Places of a lane's batches after which no further batch is looked at in one go. Each is some 200
bytes in memory, and a batch may have one for each of its entries."""


class _Old(NamedTuple):
    """A batch that was published long ago."""

    lane: str
    last_number: int
    places: Mapping[TP, Place]
    incarnation: str | None
    """Of the broker, when it was published; ``None`` if nobody has noted it."""


class BatchCleaner:
    """Goes round the batches of lanes, a page of each at a time."""

    def __init__(self, database: Database, logs: Logs, batch_publisher: BatchPublisher) -> None:
        self._database = database
        self._logs = logs
        self._batch_publisher = batch_publisher
        self._behind: dict[str, int] = {}

    async def delete_passed(self, lanes: Collection[str]) -> int:
        """Delete what is old, on its logs, and passed by all their groups; return how many.

        Raises what broker and database raise.
        """
        page = await self._read(lanes)
        on_its_logs = await self._on_their_logs(page)
        floors = await self._logs.floors({tp for old in on_its_logs for tp in old.places})
        passed = [
            old
            for old in on_its_logs
            # A log without groups has nobody to wait for.
            if all(floors.get(tp, at.position) >= at.position for tp, at in old.places.items())
        ]
        if passed:
            async with self._database.transaction() as connection:
                await connection.execute(
                    _query("delete_batches"),
                    [old.lane for old in passed],
                    [old.last_number for old in passed],
                )
            failpoints.point("outbox.deleted")
        return len(passed)

    async def _read(self, lanes: Collection[str]) -> list[_Old]:
        """The next page of each lane; behind its last one comes the first again."""
        behind = {lane: self._behind.get(lane, 0) for lane in lanes}
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                _query("select_old"), list(behind), list(behind.values()), PAGE, KEEP_FOR, PLACES
            )
        pages: dict[str, list[_Old]] = {}
        for lane, last_number, places, incarnation in rows:
            found = {TP(topic, number): Place(mark, int(at)) for topic, number, mark, at in places}
            pages.setdefault(lane, []).append(_Old(lane, last_number, found, incarnation))
        self._behind = {
            lane: page[-1].last_number
            for lane, page in pages.items()
            if len(page) == PAGE or sum(len(old.places) for old in page) >= PLACES
        }
        return [old for page in pages.values() for old in page]

    async def _on_their_logs(self, batches: Collection[_Old]) -> list[_Old]:
        """Without those of lanes of which a log has lost something, which is appended again, or of
        which a log is blocked, so that nobody can tell."""
        if not batches:
            return []
        marks = await self._logs.marks({old.lane for old in batches})
        behind = [
            (old, tp)
            for old in batches
            for tp, place in old.places.items()
            if marks[old.lane].get(tp, 0) < place.mark
        ]
        if not behind:
            return list(batches)
        published: dict[TP, set[str | None]] = {}
        for old, tp in behind:
            published.setdefault(tp, set()).add(old.incarnation)
        logs, blocked = await self._batch_publisher.find_lost(published)
        if lost := {old.lane for old, tp in behind if tp in logs}:
            await self._batch_publisher.restore(lost)
        unknown = lost | {old.lane for old, tp in behind if tp in blocked}
        return [old for old in batches if old.lane not in unknown]


def _query(name: str) -> str:
    return load("redfaust.outbox", name)
