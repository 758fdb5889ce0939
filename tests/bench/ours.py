"""Our own rows, each done in a process of its own, as those of peers are.

    python -m tests.bench.ours WORK KEY BROKER DATABASE

It leaves nothing where it measures but the events, and prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from mode import loop

from redfaust.gc_tuning import tune_gc
from tests.bench import produce, workloads
from tests.bench.events import KEYS
from tests.bench.goals import OURS
from tests.bench.workloads import Servers, Speed

EVENTS = 100_000
ROW_FOR = 120.0
"""Seconds after which a row counts as stuck."""

Measure = Callable[[Servers], Awaitable[Speed]]


class OurRow(NamedTuple):
    """What is measured."""

    work: str
    key: str
    name: str
    measure: Measure
    events: int = EVENTS
    keys: int | None = KEYS
    """Of the events that are there before; ``None``: there are none."""


OUR_ROWS = (
    OurRow("consume", OURS, "agent, dict values", workloads.consume),
    OurRow("consume", "pydantic", "agent, pydantic values", workloads.consume_typed),
    OurRow("count", OURS, "exactly once in Postgres, 1,000 keys", workloads.count_in_table),
    OurRow("count", "at least once", "  at least once", workloads.count_at_least_once),
    OurRow("count", "10 keys", "  the same with 10 keys", workloads.count_in_table, keys=10),
    OurRow("count", "new keys", "  a new key per event", workloads.count_in_table, keys=EVENTS),
    OurRow("count", "upserts", "bare asyncpg loop: its upserts, no events", workloads.upsert),
    OurRow("count", "memory", "Faust's table in memory, at least once", workloads.count_in_memory),
    OurRow("transform", OURS, "send an event for each, exactly once", workloads.transform_once),
    OurRow("transform", "at least once", "  at least once", workloads.transform),
    OurRow("produce", OURS, "topic.send(), 1,000 awaited together", produce.send, 50_000, None),
    OurRow("produce", "many", "outbox, transactions of 100", produce.publish_many, 10_000, None),
    OurRow("produce", "singly", "  of one event", produce.publish_singly, 5_000, None),
)


async def measure(row: OurRow, broker: str, database: str) -> Speed:
    """Measure beside servers in which others have left something."""
    servers = Servers(broker, database, row.events)
    async with asyncio.timeout(ROW_FOR):
        if row.keys is None:
            await workloads.clear(servers)
        else:
            await workloads.fill(servers, keys=row.keys)
        return await row.measure(servers)


if __name__ == "__main__":
    _, work, key, broker, database = sys.argv
    loop.use("uvloop")  # as `faust --loop uvloop worker` does
    tune_gc()  # as every worker does
    (row,) = (each for each in OUR_ROWS if (each.work, each.key) == (work, key))
    print(json.dumps(asyncio.run(measure(row, broker, database))._asdict()))  # noqa: T201
