"""How long does a worker take from its start to the effect of an event that is waiting?

From the call that makes the process until the event's row can be read in Postgres. Servers are up,
schema and tables are there, and files have been read once: that is a worker started again.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.processes import SHOP, SMALL, Application, Place, cpu_of, place

STARTS = 7


class Start(NamedTuple):
    """One."""

    seconds: float
    cpu: float
    """Seconds that the worker has computed for until then: less depends on the machine's load."""


class Started(NamedTuple):
    """All starts of one application, the fastest first."""

    app: str
    starts: Sequence[Start]


async def measure() -> Sequence[Started]:
    """Start a worker of each application several times."""
    async with place() as servers:
        return [await _started(servers, app) for app in (SMALL, SHOP)]


async def _started(servers: Place, app: Application) -> Started:
    await servers.prepare(app)
    starts = []
    for number in range(STARTS):
        key = f"start-{number}"
        await servers.send(app, key)
        began = time.perf_counter()
        async with servers.worker(app) as pid:
            await servers.effect(app, key)
            starts.append(Start(time.perf_counter() - began, cpu_of(pid)))
    return Started(app.name, sorted(starts))


def report(results: Sequence[Started]) -> str:
    """As a table."""
    lines = [
        f"{'from start to the first effect':30} {'median':>8} {'fastest':>8} {'slowest':>8} CPU"
    ]
    for result in results:
        seconds = [start.seconds for start in result.starts]
        lines.append(
            f"{result.app:30} {statistics.median(seconds):6.2f} s {seconds[0]:6.2f} s "
            f"{seconds[-1]:6.2f} s {statistics.median(start.cpu for start in result.starts):.2f} s"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(asyncio.run(measure())))  # noqa: T201
