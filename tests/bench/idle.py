"""What does a cluster cost that has nothing to do? ``make idle`` prints it.

CPU time is that of the workers' processes, with what the kernel does for them; commands are those
that the server counts, which include the ones that scripts call.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import redis.asyncio

from tests.bench.scaling import place_for, until_even

ID = "idle"
TOPICS = [f"idle-{number}" for number in range(20)]
PARTITIONS = 64
WORKERS = 16

CALM = 5.0
"""Seconds after the start that do not count."""

SECONDS = 20.0
"""That are measured."""


class Cost(NamedTuple):
    """Up to now."""

    at: float
    cpu: float
    commands: int


async def main() -> None:
    """Start the workers, wait until they have their shares, and measure."""
    async with place_for("tests.bench.idle_worker", PARTITIONS) as (valkey, _, broker, replicas):
        client = redis.asyncio.Redis.from_url(valkey)
        await replicas.start(WORKERS)
        shares = await until_even(broker, ID, WORKERS, PARTITIONS)
        await asyncio.sleep(CALM)
        before = await _cost(client, replicas.pids)
        await asyncio.sleep(SECONDS)
        after = await _cost(client, replicas.pids)
        await client.aclose()
    seconds = after.at - before.at
    print(  # noqa: T201
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{WORKERS} workers, {PARTITIONS} partitions of {len(TOPICS)} topics, nothing to do\n\n"
        f"partitions of a worker   {shares[0]} to {shares[-1]}\n"
        f"of one core, a worker    {(after.cpu - before.cpu) / seconds / WORKERS:.1%}\n"
        f"commands, a worker       "
        f"{(after.commands - before.commands) / seconds / WORKERS:.1f} per second"
    )


async def _cost(client: redis.asyncio.Redis, pids: Iterable[int]) -> Cost:
    commands = (await client.info("stats"))["total_commands_processed"]
    return Cost(time.monotonic(), sum(map(_cpu, pids)), commands)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
