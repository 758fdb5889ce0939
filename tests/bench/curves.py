"""How do rate, cost and delay change with what there is? ``make curves`` prints it.

One thing is changed at a time: partitions and workers, keys in the table, length of the backlog.
For each point worker processes drain a backlog, counting per key, exactly once; then events come at
a tenth of that rate, and it is noted how long each batch of them takes until it is committed, as
the group's positions in Redis show it, which are behind those in Postgres. CPU time is that of the
workers: on a machine that does other things it says more than the rate. Rounds go through all
points of a curve in turn, and medians count.

``--large`` adds the points that take minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import asyncpg
from faust.types import TP

from redfaust.brokers.broker import Broker, ProducerBatch, SequencedEntry, TopicSpec
from redfaust.brokers.partitioner import partition_of
from tests.bench import backlog, events
from tests.bench.backlog import ID, MODULE, Drained
from tests.bench.events import KEYS, TOPIC
from tests.bench.scaling import Place, place_for, until_even
from tests.bench.workloads import event

PARTITIONS = 4
EVENTS = 400_000
ROUNDS = 3

LOAD = 0.1
"""Of the rate, while delays are looked at."""
FEED_FOR = 5.0
"""Seconds."""
FEED_EVERY = 0.01
"""Seconds between two batches."""
LOOK_EVERY = 0.002
"""Seconds between two looks at positions."""
POINT_FOR = 400.0
"""Seconds after which a point counts as never to be measured."""


class Point(NamedTuple):
    """What is changed."""

    partitions: int = PARTITIONS
    workers: int = 1
    keys: int = KEYS
    """That the events have, and that are in the table before."""
    events: int = EVENTS
    """That wait when the workers start."""


class Measured(NamedTuple):
    """A point of a curve."""

    drained: Drained
    p50: float
    """Milliseconds from being sent to being committed."""
    p99: float


class Curve(NamedTuple):
    """Points that differ in one thing; the first one is what others are compared with."""

    name: str
    points: Sequence[Point]
    large: Sequence[Point] = ()
    """That take minutes."""


CURVES = (
    Curve(
        "partitions and workers",
        [Point(1, 1), Point(2, 1), Point(4, 1), Point(2, 2), Point(4, 2), Point(4, 4)],
    ),
    Curve(
        "keys in the table",
        [Point(keys=10**power) for power in (3, 4, 5, 6)],
        [Point(keys=10**7)],
    ),
    Curve(
        "length of the backlog",
        [Point(events=length) for length in (100_000, 300_000, 1_000_000)],
        [Point(events=3_000_000)],
    ),
)


async def measure(point: Point) -> Measured:
    """Measure beside servers of its own."""
    async with place_for(MODULE, point.partitions) as place, asyncio.timeout(POINT_FOR):
        await place.broker.create_topic(TopicSpec(TOPIC, point.partitions))
        if point.keys > KEYS:
            await _fill_table(place, point)
        await backlog.fill(place.broker, point.events, point.keys)
        drained = await backlog.drain(place, point.workers, point.events)
        await until_even(place.broker, ID, point.workers, point.partitions)
        delays = await _delays(place.broker, point, drained.rate * LOAD)
    at = len(delays) / 100
    return Measured(drained, delays[int(at * 50)], delays[int(at * 99)])


async def _fill_table(place: Place, point: Point) -> None:
    """A worker makes the table; its rows come from here."""
    database = await asyncpg.connect(place.store)
    await place.replicas.start(1)
    while await database.fetchval("SELECT to_regclass($1)", f"{ID}.counts") is None:  # noqa: ASYNC110
        await asyncio.sleep(backlog.LOOK_EVERY)
    await place.replicas.end(1, signal.SIGTERM)
    await database.copy_records_to_table(
        "counts",
        schema_name=ID,
        columns=("key", "value", "partition"),
        records=_rows(point),
    )
    await database.execute(f"ANALYZE {ID}.counts")
    await database.close()


def _rows(point: Point) -> Iterator[tuple[str, str, int]]:
    for number in range(point.keys):
        key = events.key(number, point.keys)
        yield key, "0", partition_of(key.encode(), point.partitions)


async def _delays(broker: Broker, point: Point, rate: float) -> Sequence[float]:
    """Milliseconds until batches are committed, the shortest first."""
    tps = [TP(TOPIC, number) for number in range(point.partitions)]
    waiting: dict[TP, deque[tuple[int, float]]] = {tp: deque() for tp in tps}
    delays: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(_feed(broker, point, rate, waiting))
        while not feeding.done() or any(waiting.values()):
            for tp, position in (await broker.positions(ID, tps)).items():
                while waiting[tp] and waiting[tp][0][0] <= position:
                    delays.append((time.perf_counter() - waiting[tp].popleft()[1]) * 1000)
            await asyncio.sleep(LOOK_EVERY)
    return sorted(delays)


async def _feed(
    broker: Broker, point: Point, rate: float, waiting: dict[TP, deque[tuple[int, float]]]
) -> None:
    """Append at so many events per second, and note where and when."""
    began, sent, count = time.perf_counter(), 0, int(rate * FEED_FOR)
    while sent < count:
        now = time.perf_counter()
        numbers = range(sent, min(count, int((now - began) * rate)))
        if numbers:
            batch = [SequencedEntry(n + 1, event(n, point.keys)) for n in numbers]
            places = await broker.append_once([ProducerBatch("feed", batch)])
            for tp, place in places["feed"].items():
                waiting[tp].append((place.position, now))
            sent = numbers.stop
        await asyncio.sleep(FEED_EVERY)


async def main(*, rounds: int, large: bool) -> None:
    """Measure and print, curve by curve."""
    for curve in CURVES:
        points = (*curve.points, *(curve.large if large else ()))
        measured: dict[Point, list[Measured]] = {point: [] for point in points}
        for _ in range(rounds):
            for point in points:
                measured[point].append(await measure(point))
        print(f"\n{curve.name}\n{_report(measured)}", flush=True)  # noqa: T201


def _report(measured: Mapping[Point, Sequence[Measured]]) -> str:
    """As a table, a line for each point."""
    lines = [
        f"{'partitions':>10} {'workers':>7} {'keys':>10} {'backlog':>9} {'events/s':>9} "
        f"{'us CPU':>7} {'x first':>7} {'p50':>9} {'p99':>9}"
    ]
    first: float | None = None
    for point, each in measured.items():
        rate = statistics.median(one.drained.rate for one in each)
        cpu = statistics.median(one.drained.cpu for one in each)
        p50 = statistics.median(one.p50 for one in each)
        p99 = statistics.median(one.p99 for one in each)
        first = first or cpu
        lines.append(
            f"{point.partitions:10} {point.workers:7} {point.keys:10,} {point.events:9,} "
            f"{rate:9,.0f} {cpu:7.1f} {cpu / first:7.2f} {p50:6.1f} ms {p99:6.1f} ms"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make curves", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--large", action="store_true", help="add what takes minutes")
    options = parser.parse_args()
    asyncio.run(main(rounds=options.rounds, large=options.large))
