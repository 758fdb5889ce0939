"""What must hold when a round is over and everything has settled."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus

import orjson
import psutil
from faust.types import TP

from redfaust.brokers.share_group import shared_group
from tests.fuzz.good import GoodTraffic
from tests.fuzz.installation import Installation
from tests.fuzz.ledger import (
    APP,
    EDITED_KEYS,
    GOOD_KEYS,
    NOTICES,
    PARTITIONS,
    PAYMENTS,
    RECEIPTS,
    TELL,
    TOLD,
    Row,
    amount_of,
)
from tests.torture.processes import ROOT

SHARED_GROUP = shared_group(APP, TELL)
SETTLE_WITHIN = 60.0
"""Seconds without any progress after which nothing will come any more."""
LOOK_EVERY = 0.2
BUSY = 50.0
"""Per cent of a core that a process may need while there is nothing to do."""
REST_FOR = 2.0
"""Seconds over which that is measured."""
COMMANDS = (("status",), ("workers",), ("topics",), ("dead-letters", "list"))
COMMAND_WITHIN = 30.0
READ_LIMIT = 1000
OTHER_KEYS = [key.encode() for key in (*GOOD_KEYS, *EDITED_KEYS)]
"""Whose events are not bad, or not always."""


async def settle(installation: Installation) -> Sequence[str]:
    """Wait until nothing is left to be done; what is left when nothing moves any more."""
    while True:
        # Twice: while the first look was on its way, one agent may have sent something to the next.
        seen = await _left(installation) or await _left(installation)
        if not seen:
            return []
        try:
            async with asyncio.timeout(SETTLE_WITHIN):
                while await _left(installation) == seen:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            return [
                f"nothing moves, and {count} are left of {what}" for what, count in seen.items()
            ]


async def _left(installation: Installation) -> Mapping[str, int]:
    pool, broker = installation.database.pool, installation.broker
    counts: Counter[str] = Counter()
    counts["outbox"] = await pool.fetchval(
        "SELECT count(*) FROM redfaust.outbox WHERE available_at IS NULL OR available_at <= now()"
    )
    counts["batches"] = await pool.fetchval(
        "SELECT count(*) FROM redfaust.batches WHERE published_at IS NULL"
    )
    counts["parked"] = await pool.fetchval("SELECT count(*) FROM redfaust.parked")
    counts["postponed"] = await pool.fetchval(
        "SELECT count(*) FROM redfaust.inbox WHERE due_at IS NOT NULL"
    )
    groups = {PAYMENTS: APP, RECEIPTS: APP, TOLD: APP, NOTICES: SHARED_GROUP}
    for topic, group in groups.items():
        partitions = await broker.status(group, topic)
        # A topic whose catalog was deleted a moment ago seems to have nothing.
        counts[f"{topic}'s partitions"] = PARTITIONS - len(partitions)
        counts[topic] = sum(partition.lag for partition in partitions)
    return {what: count for what, count in counts.items() if count}


async def complaints(installation: Installation, good: GoodTraffic) -> Sequence[str]:
    """What does not hold."""
    books, checks, heard = [await _rows(installation, t) for t in ("books", "checks", "heard")]
    found = [
        *_good(good, PAYMENTS, "books", books),
        *_good(good, PAYMENTS, "checks", checks),
        *_good(good, NOTICES, "heard", heard),
    ]
    for topic, agent, rows in (
        (PAYMENTS, "book", books),
        (RECEIPTS, "check", checks),
        (TOLD, "hear", heard),
    ):
        found += await _bad(installation, topic, agent, rows)
    found += [
        f"{process.name} ended by itself with {code}, see {process.log}"
        for process in installation.processes
        for code in process.ended_by_itself
    ]
    return found


def _good(good: GoodTraffic, topic: str, table: str, rows: Mapping[str, Row]) -> Iterator[str]:
    for key in GOOD_KEYS:
        sent, row = good.sent[topic, key], rows.get(key, Row())
        total = sum(amount_of(number) for number in range(1, sent + 1))
        if (row.count, row.total, row.disorders) != (sent, total, 0):
            yield f"{table} has {row} for {key}, of which {sent} events were sent, {total} in all"


async def _bad(
    installation: Installation, topic: str, agent: str, rows: Mapping[str, Row]
) -> Sequence[str]:
    """Each bad entry is processed or a dead letter."""
    on_streams = await _bad_entries(installation, topic)
    letters = await installation.database.pool.fetchval(
        "SELECT count(*) FROM redfaust.dead_letters "
        "WHERE app = $1 AND topic = $2 AND agent = $3 AND NOT coalesce(key = ANY ($4), false)",
        *(APP, topic, agent, OTHER_KEYS),
    )
    processed = sum(
        row.count for key, row in rows.items() if key not in GOOD_KEYS and key not in EDITED_KEYS
    )
    if on_streams == letters + processed:
        return []
    return [
        f"{topic} has {on_streams} bad entries; {processed} are processed, {letters} dead letters"
    ]


async def _bad_entries(installation: Installation, topic: str) -> int:
    broker = installation.broker
    tps = [TP(topic, number) for number in range(PARTITIONS)]
    positions = {tp: first for tp, (first, _) in (await broker.bounds(tps)).items()}
    seen: set[tuple[str, int]] = set()
    count = 0
    while logs := await broker.read(positions, limit=READ_LIMIT, wait=0):
        for tp, records in logs.items():
            for record in records:
                # What was appended again is there twice, and counts once.
                if record.source is not None and record.source in seen:
                    continue
                if record.source is not None:
                    seen.add(record.source)
                count += record.key not in OTHER_KEYS
            positions[tp] = records[-1].offset + 1
    return count


async def _rows(installation: Installation, table: str) -> Mapping[str, Row]:
    rows = await installation.database.pool.fetch(f"SELECT key, value FROM {APP}.{table}")
    return {row["key"]: Row.model_validate(row["value"]) for row in rows}


async def resting(installation: Installation) -> Sequence[str]:
    """Processes that are busy though nothing is to be done."""
    running = {p.name: psutil.Process(p.pid) for p in installation.processes if p.pid is not None}
    for process in running.values():
        process.cpu_percent()
    await asyncio.sleep(REST_FOR)
    busy = {name: process.cpu_percent() for name, process in running.items()}
    return [
        f"{name} takes {share:.0f} % of a core at rest"
        for name, share in busy.items()
        if share > BUSY
    ]


async def reported(installation: Installation, what: str) -> Sequence[str]:
    """Whether the status names a problem while something is wrong."""
    for _ in range(50):
        async with installation.session.get(f"{installation.web}/api/status") as answer:
            if answer.status == HTTPStatus.OK and orjson.loads(await answer.read())["problems"]:
                return []
        await asyncio.sleep(LOOK_EVERY)
    return [f"the status reports nothing while {what}"]


async def commands(installation: Installation) -> Sequence[str]:
    """Commands that end in a traceback, or do not end."""
    found = []
    for arguments in COMMANDS:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", *arguments),
            cwd=ROOT,
            env={**installation.environ, "PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), COMMAND_WITHIN)
        except TimeoutError:
            process.kill()
            await process.wait()
            found.append(f"redfaust {' '.join(arguments)} does not end")
            continue
        if b"Traceback" in output:
            found.append(f"redfaust {' '.join(arguments)} ends in a traceback: {output[-300:]!r}")
    return found
