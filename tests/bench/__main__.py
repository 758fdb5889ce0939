"""How fast is it? ``make bench`` prints rates and, more to the point, their ratios.

Absolute rates are those of this machine now; a ratio is between two rows of the same run. Each row
is measured from the first read until everything is committed and, where events are sent, has
arrived; the bare loop commits nothing and sends nothing. Of the rounds the best counts, which other
work on the machine disturbed least; the shortest row, the bare loop, gains most by that.
"""

from __future__ import annotations

import asyncio
import os
import platform
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
ROWS = [
    BARE,
    Row("agent, dict values", workloads.consume),
    COUNT,
    Row("  the same with 10 keys", workloads.count_in_table, keys=10),
    Row("  the same with 100,000 keys", workloads.count_in_table, keys=100_000),
    Row("sending an event for each, exactly once", workloads.transform_once),
    Row("  the same without a database, at least once", workloads.transform),
]


async def main() -> None:
    """Measure every row ``ROUNDS`` times, in turn, and print the best; then commit age."""
    relax_collector()  # as a worker does; it helps the bare loop too
    speeds: dict[Row, list[Speed]] = {row: [] for row in ROWS}
    with tempfile.TemporaryDirectory(prefix="redfaust-bench-") as directory:
        async with (
            running_valkey(Path(directory) / "valkey") as valkey,
            running_postgres(Path(directory) / "postgres") as postgres,
        ):
            servers = Servers(valkey.url, postgres.url, EVENTS)
            for _ in range(ROUNDS):
                for row in ROWS:
                    await workloads.fill(servers, keys=row.keys)
                    speeds[row].append(await row.measure(servers))
            best = {row: max(measured) for row, measured in speeds.items()}
            _report(best)
            half = best[COUNT].events_per_second / 2
            _report_age(await age.measure(servers, half, keys=COUNT.keys))


def _report(speeds: dict[Row, Speed]) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ")  # noqa: T201
    print(f"{EVENTS} events of about 200 bytes, one worker, best of {ROUNDS}\n")  # noqa: T201
    width = max(len(row.name) for row in speeds)
    print(f"{'':{width}}  events/s  x bare loop  CPU us/event")  # noqa: T201
    for row, speed in speeds.items():
        ratio = speed.events_per_second / speeds[BARE].events_per_second
        print(  # noqa: T201
            f"{row.name:{width}}  {speed.events_per_second:8,.0f}  {ratio:11.2f}  {speed.cpu:12.1f}"
        )


def _report_age(measured: age.Ages) -> None:
    print(  # noqa: T201
        f"\ncommit age at half of that load ({measured.rate:,.0f} events/s, counting, 1,000 keys), "
        f"from finished to committed:\n"
        f"p50 {measured.p50:.0f} ms, p99 {measured.p99:.0f} ms, longest {measured.longest:.0f} ms"
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
