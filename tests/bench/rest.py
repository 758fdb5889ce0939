"""What does one worker cost that has nothing to do, and how large does a backlog make it?

Memory is that of the worker's process: RSS; PSS, which counts what it shares with others in
parts; and USS, which others do not have. CPU time is that of all its threads, with what the kernel
does for them; commands are those that Redis counts, which include the ones that scripts call.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from redfaust.brokers.broker import Broker, Outgoing, ProducerBatch, SequencedEntry
from tests.bench.processes import SHOP, SMALL, Application, Place, cpu_of, place
from tests.bench.scaling import ID, TOPIC

CALM = 10.0
"""Seconds with nothing to do before anything is measured."""

SECONDS = 20.0
"""For which CPU time and commands are counted."""

BACKLOG = 1_000_000
BATCH = 5_000
KEYS = 1_000

SAMPLE_EVERY = 0.05
"""Seconds between two looks at the memory."""

DRAIN_FOR = 100.0
"""Seconds after which a backlog counts as never to be drained."""

MIB = 1024 * 1024


class Memory(NamedTuple):
    """In MiB."""

    rss: float
    pss: float
    uss: float


class AtRest(NamedTuple):
    """Of one worker."""

    app: str
    memory: Memory
    cpu: float
    """Share of one core."""
    commands: float
    """Of Redis, per second."""


class Drained(NamedTuple):
    """Of a worker of the small application that found a backlog."""

    events: int
    seconds: float
    rest: float
    """MiB of RSS before it came."""
    early: float
    """MiB of RSS at most, while the first half of it was worked on."""
    late: float
    """MiB of RSS at most, in the second half."""


class Results(NamedTuple):
    """All that is measured here."""

    at_rest: Sequence[AtRest]
    drained: Drained


async def measure() -> Results:
    """Have a worker of each application do nothing, then one of them a lot."""
    async with place() as servers:
        at_rest = []
        for app in (SMALL, SHOP):
            await servers.prepare(app)
            at_rest.append(await _rest(servers, app))
        return Results(at_rest, await _drain(servers))


async def _rest(servers: Place, app: Application) -> AtRest:
    await servers.send(app, "rest")
    async with servers.worker(app) as pid:
        await servers.effect(app, "rest")
        await asyncio.sleep(CALM)
        began, cpu, commands = time.monotonic(), cpu_of(pid), await servers.commands()
        await asyncio.sleep(SECONDS)
        seconds = time.monotonic() - began
        return AtRest(
            app.name,
            memory_of(pid),
            (cpu_of(pid) - cpu) / seconds,
            (await servers.commands() - commands) / seconds,
        )


async def _drain(servers: Place) -> Drained:
    await servers.send(SMALL, "drain")
    async with servers.worker(SMALL) as pid:
        await servers.effect(SMALL, "drain")
        rest = memory_of(pid).rss
    await _fill(servers.broker)
    positions = await _left(servers.broker)
    async with servers.worker(SMALL) as pid, asyncio.timeout(DRAIN_FOR):
        began, left, seen = time.monotonic(), positions, []
        while left:
            await asyncio.sleep(SAMPLE_EVERY)
            left = await _left(servers.broker)
            seen.append((left, memory_of(pid).rss))
        seconds = time.monotonic() - began
    working = [(left, rss) for left, rss in seen if left < positions]
    return Drained(
        BACKLOG,
        seconds,
        rest,
        max(rss for left, rss in working if left >= BACKLOG / 2),
        max(rss for left, rss in working if left < BACKLOG / 2),
    )


async def _fill(broker: Broker) -> None:
    value = b'{"note": "%s"}' % (b"x" * 180)
    for start in range(0, BACKLOG, BATCH):
        batch = [
            SequencedEntry(number + 1, Outgoing(TOPIC, value, b"key-%d" % (number % KEYS)))
            for number in range(start, start + BATCH)
        ]
        await broker.append_once([ProducerBatch("backlog", batch)])


async def _left(broker: Broker) -> int:
    return sum(partition.lag or 0 for partition in await broker.status(ID, TOPIC))


def memory_of(pid: int) -> Memory:
    """Of a process, as the kernel adds it up."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    size = {line.split(":")[0]: int(line.split()[1]) * 1024 / MIB for line in lines}
    return Memory(size["Rss"], size["Pss"], size["Private_Clean"] + size["Private_Dirty"])


def report(results: Results) -> str:
    """As two tables."""
    lines = [f"{'a worker at rest':24} {'RSS':>7} {'PSS':>7} {'USS':>7} MiB {'CPU':>7} commands/s"]
    lines += [
        f"{each.app:24} {each.memory.rss:7.1f} {each.memory.pss:7.1f} {each.memory.uss:7.1f}     "
        f"{each.cpu:7.2%} {each.commands:10.1f}"
        for each in results.at_rest
    ]
    drained = results.drained
    lines += [
        "",
        f"RSS of a worker that drains {drained.events:,} events in {drained.seconds:.0f} s, in MiB:"
        f" {drained.rest:.1f} at its start, at most {drained.early:.1f} in the first half, "
        f"{drained.late:.1f} in the second",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(asyncio.run(measure())))  # noqa: T201
