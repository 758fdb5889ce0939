"""How fast is it? ``make bench`` prints rates and, more to the point, their ratios.

Absolute rates are those of this machine now; a ratio is between two rows of the same run. Each row
is measured from the first read until everything is committed and, where events are sent, has
arrived; the bare loop commits nothing and sends nothing. Of the rounds the best counts, which other
work on the machine disturbed least. The shortest row, the bare loop, gains most by that, so the
ratio of the medians is printed beside.
"""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from app.embedded import running_postgres, running_valkey
from connectors.collector import relax_collector
from tests.bench import age, workloads
from tests.bench.workloads import Servers, Speed

ROUNDS = 5
EVENTS = 100_000


class Row(NamedTuple):
    """What is measured, over events of so many keys."""

    name: str
    measure: Callable[[Servers], Awaitable[Speed]]
    keys: int = 1000


BARE = Row("bare redis-py loop: XREADGROUP, JSON, XACK", workloads.bare_loop)
COUNT = Row("counting in a Postgres table, exactly once: 1,000 keys", workloads.count_in_table)
NEW_KEYS = Row("  the same with 100,000 keys", workloads.count_in_table, keys=EVENTS)
UPSERTS = Row(
    "bare asyncpg loop: upserts of 100,000 keys, no events", workloads.upsert, keys=EVENTS
)
ROWS = [
    BARE,
    Row("agent, dict values", workloads.consume),
    Row("agent, pydantic values", workloads.consume_typed),
    COUNT,
    Row("  the same with 10 keys", workloads.count_in_table, keys=10),
    NEW_KEYS,
    Row("  1,000 keys, at least once", workloads.count_at_least_once),
    Row("  1,000 keys in Faust's table in memory, at least once", workloads.count_in_memory),
    UPSERTS,
    Row("sending an event for each, exactly once", workloads.transform_once),
    Row("  the same without a database, at least once", workloads.transform),
]


async def main() -> None:
    """Measure every row ``ROUNDS`` times, in turn, and print the best; then commit age."""
    relax_collector()  # as a worker does; it helps the bare loop too
    speeds: dict[Row, list[Speed]] = {row: [] for row in ROWS}
    with tempfile.TemporaryDirectory(prefix="redfaust-bench-") as directory:
        os.environ["APP_DATADIR"] = f"{directory}/app"  # Faust makes it, in the current one else
        async with (
            running_valkey(Path(directory) / "valkey") as valkey,
            running_postgres(Path(directory) / "postgres") as postgres,
        ):
            servers = Servers(valkey.url, postgres.url, EVENTS)
            for _ in range(ROUNDS):
                for row in ROWS:
                    await workloads.fill(servers, keys=row.keys)
                    speeds[row].append(await row.measure(servers))
            _report(speeds)
            half = max(speeds[COUNT]).events_per_second / 2
            _report_age(await age.measure(servers, half, keys=COUNT.keys))


def _report(speeds: dict[Row, list[Speed]]) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ")  # noqa: T201
    print(f"{EVENTS} events of about 200 bytes, one worker, best of {ROUNDS}\n")  # noqa: T201
    width = max(len(row.name) for row in speeds)
    print(f"{'':{width}}  events/s  x bare loop  by medians  CPU us/event")  # noqa: T201
    for row, measured in speeds.items():
        best, median = _ratios(measured, speeds[BARE])
        print(  # noqa: T201
            f"{row.name:{width}}  {max(measured).events_per_second:8,.0f}  {best:11.2f}  "
            f"{median:10.2f}  {max(measured).cpu:12.1f}"
        )
    best, median = _ratios(speeds[NEW_KEYS], speeds[UPSERTS])
    print(f"\n100,000 keys: {best:.2f} x the loop of upserts alone, {median:.2f} by medians")  # noqa: T201


def _ratios(measured: list[Speed], to: list[Speed]) -> tuple[float, float]:
    """Of the best, and of the medians."""
    rates, others = ([speed.events_per_second for speed in speeds] for speeds in (measured, to))
    return max(rates) / max(others), statistics.median(rates) / statistics.median(others)


def _report_age(measured: age.Ages) -> None:
    print(  # noqa: T201
        f"\ncommit age at half of that load ({measured.rate:,.0f} events/s, counting, 1,000 keys), "
        f"from finished to committed:\n"
        f"p50 {measured.p50:.0f} ms, p99 {measured.p99:.0f} ms, longest {measured.longest:.0f} ms"
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
