"""How long what is finished waits for its commit."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, NamedTuple

from connectors.brokers.broker import TopicSpec
from connectors.transports.by_url import broker_by_url
from tests.bench.events import PARTITIONS, TOPIC
from tests.bench.workloads import (
    Countdown,
    Servers,
    add_counting_agent,
    clear,
    new_app,
)

SECONDS = 6


class Ages(NamedTuple):
    """Milliseconds from the end of an event to that of its commit."""

    rate: float
    """Events per second, as they were processed."""
    p50: float
    p99: float
    longest: float


class Stopwatch(Countdown):
    """Remembers when each event was done, and how old it was when it was committed."""

    def __init__(self, events: int) -> None:
        super().__init__(events)
        self.finished: list[float] = []
        self.ages: list[float] = []

    def tick(self, note: str) -> None:
        super().tick(note)
        self.finished.append(time.perf_counter())

    def committed(self, count: int) -> None:
        """Note that the first so many events are committed."""
        now = time.perf_counter()
        self.ages += [(now - at) * 1000 for at in self.finished[len(self.ages) : count]]


async def measure(servers: Servers, rate: float, *, keys: int) -> Ages:
    """Feed a counting agent at a rate, and look how old events are when they are committed."""
    await clear(servers)
    broker = broker_by_url(servers.broker, default_partitions=PARTITIONS)
    await broker.open()
    await broker.create_topic(TopicSpec(TOPIC, PARTITIONS))
    await broker.close()
    events = int(rate * SECONDS)
    stopwatch = Stopwatch(events)
    app = new_app(servers, servers.database)
    add_counting_agent(app, stopwatch)
    consumer: Any = app.consumer
    commit = consumer.force_commit

    async def noted_commit(*args: Any, **kwargs: Any) -> bool:
        # The agent never waits, so whenever this runs it is done with each event that it has had.
        finished = len(stopwatch.finished)
        done: bool = await commit(*args, **kwargs)
        stopwatch.committed(finished)
        return done

    consumer.force_commit = noted_commit
    async with app:
        feeder = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.bench.feed", servers.broker, str(rate), str(events), str(keys)),
        )
        await stopwatch.done.wait()
        await feeder.wait()
    return _summary(stopwatch)


def _summary(stopwatch: Stopwatch) -> Ages:
    assert len(stopwatch.ages) == stopwatch.events
    ages = sorted(stopwatch.ages)
    first, last = stopwatch.finished[0], stopwatch.finished[-1]
    at = len(ages) / 100
    return Ages(len(ages) / (last - first), ages[int(at * 50)], ages[int(at * 99)], ages[-1])
