"""How long do worker processes take for a backlog? ``python -m tests.bench.backlog`` prints it.

Workers as anybody starts them count per key, exactly once, what is there when they start. Time
runs from their start until the last event is committed; rate and CPU time are those from the first
commit on.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from redfaust.brokers.broker import Broker, ProducerBatch, SequencedEntry, TopicSpec
from tests.bench.events import KEYS, TOPIC
from tests.bench.processes import cpu_of
from tests.bench.scaling import Place, place_for
from tests.bench.workloads import event

ID = "counting"
"""Of the application, its group, and its schema."""
MODULE = "tests.bench.counting_worker"
EVENTS = 1_000_000
PARTITIONS = 4
WORKERS = (1, 2)

LOOK_EVERY = 0.02
"""Seconds between two looks at what is left."""

DRAIN_FOR = 240.0
"""Seconds after which a backlog counts as never to be drained."""

AT_ONCE = 5_000
"""Events that are put there in one go."""


class Drained(NamedTuple):
    """A backlog that is no more."""

    workers: int
    events: int
    seconds: float
    """From the start of the workers."""
    rate: float
    """Events per second, from the first commit on."""
    cpu: float
    """Microseconds of all workers for an event, since then."""


async def measure(workers: int, events: int = EVENTS) -> Drained:
    """Have so many worker processes drain a backlog of so many events."""
    async with place_for(MODULE, PARTITIONS) as place:
        await place.broker.create_topic(TopicSpec(TOPIC, PARTITIONS))
        await fill(place.broker, events)
        return await drain(place, workers, events)


async def fill(broker: Broker, events: int, keys: int = KEYS) -> None:
    """Put events there."""
    for start in range(0, events, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, events))
        await broker.append_once(
            [ProducerBatch("backlog", [SequencedEntry(n + 1, event(n, keys)) for n in numbers])]
        )


async def drain(place: Place, workers: int, events: int) -> Drained:
    """Start workers, and wait until they have drained so many events. They stay."""
    began = time.perf_counter()
    await place.replicas.start(workers)
    async with asyncio.timeout(DRAIN_FOR):
        while (left := await _left(place.broker, events)) == events:
            place.replicas.assert_running()
            await asyncio.sleep(LOOK_EVERY)
        first, cpu = time.perf_counter(), _cpu(place)
        counted = left
        assert counted, "too few events: the first commit had all"
        while left:
            place.replicas.assert_running()
            await asyncio.sleep(LOOK_EVERY)
            left = await _left(place.broker, events)
    ended = time.perf_counter()
    spent = _cpu(place) - cpu
    return Drained(workers, events, ended - began, counted / (ended - first), spent / counted * 1e6)


async def _left(broker: Broker, events: int) -> int:
    """Before the group is there, all of them."""
    partitions = await broker.status(ID, TOPIC)
    if any(partition.position is None for partition in partitions):
        return events
    return sum(partition.lag for partition in partitions)


def _cpu(place: Place) -> float:
    return sum(map(cpu_of, place.replicas.pids))


def report(results: Sequence[Drained]) -> str:
    """As a table."""
    lines = [f"{'backlog':>9} {'workers':>8} {'drained in':>11} {'events/s':>9} {'us CPU':>7}"]
    lines += [
        f"{each.events:9,} {each.workers:8} {each.seconds:9.1f} s {each.rate:9,.0f} {each.cpu:7.1f}"
        for each in results
    ]
    return "\n".join(lines)


async def main(events: int) -> None:
    """Measure and print."""
    print(report([await measure(workers, events) for workers in WORKERS]))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS))
