"""How long until the effect of an event is in Postgres?

From being sent, at a steady load; and, with nothing else to do, from the end of a transaction of
the application that publishes an event through the outbox. An effect is there when the commit that
holds it has returned. ``python -m tests.bench.latency 11000 55000`` prints it, for these loads.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import faust

from app.embedded import running_postgres, running_valkey
from redfaust.brokers.broker import TopicSpec
from redfaust.gc_tuning import tune_gc
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database
from redfaust.processing.state_backend import state_backend_of
from redfaust.transports.by_url import broker_by_url
from redfaust.transports.consumer import Consumer
from tests.bench.events import KEYS, PARTITIONS, TOPIC
from tests.bench.workloads import Servers, clear, event, new_app

SECONDS = 6
"""That a load is fed."""
SINGLE = 150
"""Events that are published through the outbox, one at a time."""
LONGEST_PAUSE = 0.2
"""Seconds between one of these and the next, at most."""


class Milliseconds(NamedTuple):
    """How long it took for one half, for 99 of 100, and for all."""

    p50: float
    p99: float
    longest: float

    @classmethod
    def of(cls, nanoseconds: Sequence[int]) -> Milliseconds:
        """Of these."""
        ordered = sorted(nanoseconds)
        at = len(ordered) / 100
        return cls(*(ordered[i] / 1e6 for i in (int(at * 50), int(at * 99), -1)))

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f} ms, p99 {self.p99:.1f} ms, longest {self.longest:.1f} ms"


class Latency(NamedTuple):
    """Of a steady load."""

    rate: float
    """Events per second, as they were processed."""
    effect: Milliseconds
    """From being sent to the effect."""
    commit: Milliseconds
    """From being finished to the effect."""
    commits: float
    """Per second."""
    cpu: float
    """Microseconds of the worker's own time for an event."""


class Stopwatch:
    """Remembers when each event was sent, was finished, and was committed."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.sent: list[int] = []
        self.finished: list[int] = []
        self.committed: list[int] = []
        self.commits = 0
        self.news = asyncio.Event()

    def add_agent(self, app: faust.App) -> None:
        """Have events counted per key, and noted."""
        counts = app.Table("counts", default=int, key_type=str, value_type=int)

        @app.agent(app.topic(TOPIC, key_type=str))
        async def work(stream: Any) -> None:
            async for key, value in stream.items():
                counts[key] += 1
                self.sent.append(value["sent"])
                self.finished.append(time.time_ns())

    def watch(self, app: faust.App) -> None:
        """Have the commits of a started application noted."""
        consumer, state_backend = cast("Consumer", app.consumer), state_backend_of(app)
        assert state_backend is not None
        begin, commit = consumer.force_commit, state_backend.committer.commit
        done = 0

        async def noted_begin(*args: Any, **kwargs: Any) -> bool:
            # The agent never waits, so whenever this runs it is done with each event it has had.
            nonlocal done
            done = len(self.finished)
            return await begin(*args, **kwargs)

        async def noted_commit(*args: Any) -> None:
            await commit(*args)
            self.commits += 1
            self.committed += [time.time_ns()] * (done - len(self.committed))
            self.news.set()

        consumer.force_commit = noted_begin  # type: ignore[method-assign]
        state_backend.committer.commit = noted_commit  # type: ignore[assignment, method-assign]

    async def until(self, events: int) -> None:
        """Wait until so many are committed."""
        while len(self.committed) < events:
            self.news.clear()
            await self.news.wait()


async def measure(servers: Servers, rate: float, *, keys: int = KEYS) -> Latency:
    """Feed a counting agent at so many events per second."""
    stopwatch = Stopwatch(int(rate * SECONDS))
    async with _counting(servers, stopwatch):
        cpu = time.process_time()
        feeder = await asyncio.create_subprocess_exec(
            sys.executable,
            *(
                "-m",
                "tests.bench.feed",
                servers.broker,
                str(rate),
                str(stopwatch.events),
                str(keys),
            ),
        )
        await stopwatch.until(stopwatch.events)
        cpu = time.process_time() - cpu
        await feeder.wait()
    first, last = stopwatch.finished[0], stopwatch.finished[-1]
    seconds = (last - first) / 1e9
    return Latency(
        stopwatch.events / seconds,
        Milliseconds.of(_between(stopwatch.sent, stopwatch.committed)),
        Milliseconds.of(_between(stopwatch.finished, stopwatch.committed)),
        stopwatch.commits / seconds,
        cpu / stopwatch.events * 1e6,
    )


async def measure_outbox(servers: Servers) -> Milliseconds:
    """Publish events through the outbox, one at a time, with nothing else going on.

    From the end of the application's transaction to that of the commit that counts the event; what
    carries it in between is the relay of the shop, in its own process.
    """
    stopwatch = Stopwatch(SINGLE)
    ended = []
    async with _counting(servers, stopwatch), _relay(servers):
        database = await Database.connect(servers.database)
        outbox = Outbox(database)
        for number in range(SINGLE):
            entry = event(number, SINGLE, sent=0)
            async with outbox.transaction() as transaction:
                await transaction.publish(entry.topic, entry.value, key=entry.key)
            ended.append(time.time_ns())
            await stopwatch.until(number + 1)
            await asyncio.sleep(random.uniform(0, LONGEST_PAUSE))
        await database.close()
    return Milliseconds.of(_between(ended[1:], stopwatch.committed[1:]))  # the relay starts first


@asynccontextmanager
async def _counting(servers: Servers, stopwatch: Stopwatch) -> AsyncIterator[None]:
    """Have an agent count what comes, and its commits watched."""
    await clear(servers)
    broker = broker_by_url(servers.broker, default_partitions=PARTITIONS)
    await broker.open()
    await broker.create_topic(TopicSpec(TOPIC, PARTITIONS))
    await broker.close()
    app = new_app(servers, servers.database)
    stopwatch.add_agent(app)
    async with app:
        stopwatch.watch(app)
        yield


@asynccontextmanager
async def _relay(servers: Servers) -> AsyncIterator[None]:
    settings = {
        "REDFAUST_BROKER": servers.broker,
        "REDFAUST_DATABASE": servers.database,
        "REDFAUST_LOG_LEVEL": "warning",
    }
    relay = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "relay"), env={**os.environ, **settings}
    )
    try:
        yield
    finally:
        relay.terminate()
        await relay.wait()


def _between(beginnings: Iterable[int], ends: Iterable[int]) -> list[int]:
    return [end - beginning for beginning, end in zip(beginnings, ends, strict=True)]


async def main(rates: Sequence[float]) -> None:
    """Measure at these events per second, then the outbox, and print."""
    tune_gc()  # as a worker does
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="redfaust-bench-") as directory:
        os.environ["APP_DATADIR"] = f"{directory}/app"  # Faust makes it, in the current one else
        async with (
            running_valkey(Path(directory) / "valkey") as valkey,
            running_postgres(Path(directory) / "postgres") as postgres,
        ):
            servers = Servers(valkey.url, postgres.url, 0)
            for rate in rates:
                print(describe(await measure(servers, rate)), flush=True)  # noqa: T201
            print(f"outbox to effect, idle: {await measure_outbox(servers)}")  # noqa: T201


def describe(latency: Latency) -> str:
    """For people."""
    return (
        f"{latency.rate:,.0f} events/s: sent to effect {latency.effect}; "
        f"finished to effect {latency.commit}; "
        f"{latency.commits:.0f} commits/s, CPU {latency.cpu:.1f} us/event"
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main([float(rate) for rate in sys.argv[1:]])))
