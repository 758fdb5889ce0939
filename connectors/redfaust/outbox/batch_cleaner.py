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
"""Batches of a producer that are looked at in one go."""
PLACES = 2_000
"""Places of a producer's batches after which no further batch is looked at in one go. Each is some
200 bytes in memory, and a batch may have one for each of its entries."""


class _Old(NamedTuple):
    """A batch that was published long ago."""

    producer_id: str
    last_sequence: int
    places: Mapping[TP, Place]
    incarnation: str | None
    """Of the broker, when it was published; ``None`` if nobody has noted it."""


class BatchCleaner:
    """Goes round the batches of producers, a page of each at a time."""

    def __init__(self, database: Database, logs: Logs, batch_publisher: BatchPublisher) -> None:
        self._database = database
        self._logs = logs
        self._batch_publisher = batch_publisher
        self._behind: dict[str, int] = {}

    async def delete_passed(self, producer_ids: Collection[str]) -> int:
        """Delete what is old, on its logs, and passed by all their groups; return how many.

        Raises what broker and database raise.
        """
        page = await self._read(producer_ids)
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
                    [old.producer_id for old in passed],
                    [old.last_sequence for old in passed],
                )
            failpoints.point("outbox.deleted")
        return len(passed)

    async def _read(self, producer_ids: Collection[str]) -> list[_Old]:
        """The next page of each producer; behind its last one comes the first again."""
        behind = {producer_id: self._behind.get(producer_id, 0) for producer_id in producer_ids}
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                _query("select_old"), list(behind), list(behind.values()), PAGE, KEEP_FOR, PLACES
            )
        pages: dict[str, list[_Old]] = {}
        for producer_id, last_sequence, places, incarnation in rows:
            found = {
                TP(topic, number): Place(last_sequence, int(at))
                for topic, number, last_sequence, at in places
            }
            pages.setdefault(producer_id, []).append(
                _Old(producer_id, last_sequence, found, incarnation)
            )
        self._behind = {
            producer_id: page[-1].last_sequence
            for producer_id, page in pages.items()
            if len(page) == PAGE or sum(len(old.places) for old in page) >= PLACES
        }
        return [old for page in pages.values() for old in page]

    async def _on_their_logs(self, batches: Collection[_Old]) -> list[_Old]:
        """Without those of producers of which a log has lost something, which is appended again, or
        of which a log is blocked, so that nobody can tell."""
        if not batches:
            return []
        last_sequences = await self._logs.last_sequences({old.producer_id for old in batches})
        behind = [
            (old, tp)
            for old in batches
            for tp, place in old.places.items()
            if last_sequences[old.producer_id].get(tp, 0) < place.last_sequence
        ]
        if not behind:
            return list(batches)
        published: dict[TP, set[str | None]] = {}
        for old, tp in behind:
            published.setdefault(tp, set()).add(old.incarnation)
        logs, blocked = await self._batch_publisher.find_lost(published)
        if lost := {old.producer_id for old, tp in behind if tp in logs}:
            await self._batch_publisher.restore(lost)
        unknown = lost | {old.producer_id for old, tp in behind if tp in blocked}
        return [old for old in batches if old.producer_id not in unknown]


def _query(name: str) -> str:
    return load("redfaust.outbox", name)
