"""How fast is it? ``make bench`` prints rates and, more to the point, their ratios.

Absolute rates are those of this machine now; a ratio is between two rows of the same run.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from app.embedded import running_postgres, running_valkey
from tests.bench.workloads import Servers, bare_loop, consume, count_in_table, fill

ROUNDS = 3
EVENTS = 50_000

ROWS: dict[str, Callable[[Servers], Awaitable[float]]] = {
    "bare redis-py loop: XREADGROUP, JSON, XACK": bare_loop,
    "agent, dict values": consume,
    "agent, dict values, count per key in a Postgres table": count_in_table,
}


async def main() -> None:
    """Measure every row ``ROUNDS`` times, in turn, and print the medians."""
    rates: dict[str, list[float]] = {name: [] for name in ROWS}
    with tempfile.TemporaryDirectory(prefix="redfaust-bench-") as directory:
        async with (
            running_valkey(Path(directory) / "valkey") as valkey,
            running_postgres(Path(directory) / "postgres") as postgres,
        ):
            servers = Servers(valkey.url, postgres.url, EVENTS)
            for _ in range(ROUNDS):
                for name, measure in ROWS.items():
                    await fill(servers)
                    rates[name].append(await measure(servers))
    _report({name: median(measured) for name, measured in rates.items()})


def _report(rates: dict[str, float]) -> None:
    bare = next(iter(rates.values()))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ")  # noqa: T201
    print(f"{EVENTS} events of about 200 bytes, one worker, medians of {ROUNDS}\n")  # noqa: T201
    width = max(map(len, rates))
    print(f"{'':{width}}  events/s  x bare loop")  # noqa: T201
    for name, rate in rates.items():
        print(f"{name:{width}}  {rate:8,.0f}  {rate / bare:11.2f}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
