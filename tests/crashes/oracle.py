"""What there has to be in the end, and what there is."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import Any, TypeAlias

import orjson
from faust.types import TP

from redfaust.brokers.broker import Broker
from redfaust.errors import DatabaseUnavailable
from redfaust.outbox.outbox import outbox_status
from redfaust.postgres.database import Database
from tests.crashes.scenario import (
    APP,
    ATTEMPTS,
    EVENTS,
    PARTITIONS,
    PATIENCE,
    Place,
    alarms,
    cannot_be_sent,
    connect,
    is_poison,
    key_of,
)

Outcome: TypeAlias = dict[str, Any]

TABLES = ("journal", "counts", "totals", "rung")
LOOK_EVERY = 0.05


def expected(place: Place) -> Outcome:
    """Each number done once, those of a key in their order."""
    journal: defaultdict[str, list[int]] = defaultdict(list)
    rung: defaultdict[str, list[int]] = defaultdict(list)
    totals: defaultdict[str, int] = defaultdict(int)
    letters: list[tuple[str, int, int]] = []
    for number in range(EVENTS):
        key = key_of(number)
        totals[key] += number
        if is_poison(number):
            letters += [("journal", number, ATTEMPTS), ("post", number, ATTEMPTS)]
            continue
        journal[key].append(number)
        if cannot_be_sent(number, place):
            letters.append(("", number, 1))
        if alarms(number):
            rung[key].append(number)
    return {
        "journal": dict(journal),
        "counts": {key: len(numbers) for key, numbers in journal.items()},
        "totals": dict(totals),
        "rung": dict(rung),
        "copies": dict(journal),
        "receipts": sorted(number for number in range(EVENTS) if not is_poison(number)),
        "letters": sorted(letters),
        "parked": 0,
        "lag": 0,
        "unpublished": 0,
    }


class Oracle:
    """Looks at both servers, not through what the test does to the ways there."""

    def __init__(self, place: Place, database: Database) -> None:
        self._place = place
        self._broker: Broker = connect(place)
        self._database = database

    async def close(self) -> None:
        await self._broker.close()

    async def found(self) -> Outcome:
        """What there is now."""
        async with self._database.transaction() as connection:
            parked = await connection.fetchval("SELECT count(*) FROM redfaust.parked")
            batches = await connection.fetchval(
                "SELECT count(*) FROM redfaust.batches WHERE published_at IS NULL"
            )
            letters = await connection.fetch(
                "SELECT agent, value, attempts FROM redfaust.dead_letters"
            )
            tables = {}
            for table in TABLES:
                known = await connection.fetchval("SELECT to_regclass($1)", f"{APP}.{table}")
                rows = await connection.fetch(f"SELECT key, value FROM {known}") if known else []
                tables[table] = {row["key"]: row["value"] for row in rows}
        receipts = (await self._sent_to("receipts")).values()
        status = await outbox_status(self._database)
        return {
            **tables,
            "copies": await self._sent_to("copies"),
            "receipts": sorted(number for of_key in receipts for number in of_key),
            "letters": sorted((agent or "", int(n), attempts) for agent, n, attempts in letters),
            "parked": parked,
            "lag": await self._lag(),
            "unpublished": batches + status.depth + status.scheduled,
        }

    async def _sent_to(self, topic: str) -> dict[str, list[int]]:
        tps = [TP(topic, partition) for partition in range(PARTITIONS)]
        starts = {tp: oldest for tp, (oldest, _) in (await self._broker.bounds(tps)).items()}
        sent: defaultdict[str, list[int]] = defaultdict(list)
        for log in (await self._broker.read(starts, limit=10 * EVENTS, wait=0)).values():
            for record in log:
                sent[(record.key or b"").decode()].append(orjson.loads(record.value or b""))
        return dict(sent)

    async def _lag(self) -> int:
        groups = [(APP, "numbers"), (APP, "alarms"), (f"{APP}/post", "numbers")]
        statuses = [await self._broker.status(group, topic) for group, topic in groups]
        return sum(partition.lag for status in statuses for partition in status)

    async def all_done(self) -> None:
        """Return when everything is as it has to be; fail with the difference when it is not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while await self._differs():  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(LOOK_EVERY)
        await self.still_all_done()

    async def still_all_done(self) -> None:
        """Fail with the difference if it is not."""
        assert await self._difference() == {}

    async def _differs(self) -> bool:
        try:
            return bool(await self._difference())
        except DatabaseUnavailable:  # its session ended with the transaction
            return True

    async def _difference(self) -> Outcome:
        """What is, and what has to be."""
        goal, found = expected(self._place), await self.found()
        return {what: (found[what], goal[what]) for what in goal if found[what] != goal[what]}
