"""How long do partitions stand still when workers come, leave and die? ``make scale`` prints it.

A steady load goes into all partitions while workers are started, stopped and killed. Positions
are looked at all the time: the longest time in which one did not move is its pause. That includes
the time between two commits, and whatever the machine is too slow for: every worker is a process of
its own, and they share its cores with the servers.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from faust.types import TP

from app.embedded import running_postgres, running_valkey
from app.embedded.process import die_with_parent
from redfaust.brokers.broker import Broker, Outgoing, TopicSpec
from redfaust.transports.by_url import broker_by_url

ID = "scaling"
TOPIC = "scaled"
PARTITIONS = 16

EVERY = 0.02
"""Seconds between two entries of a partition, and between two looks at its position."""

SETTLE_FOR = 60.0
"""Seconds after which shares that are not even count as never to be."""

CALM = 2.0
"""Seconds that each step goes on being looked at after shares are even."""

TPS = [TP(TOPIC, number) for number in range(PARTITIONS)]


class Paused(NamedTuple):
    """The longest pauses of a step, in seconds."""

    moved: float
    """Of a partition that got another owner."""
    stayed: float
    """Of one that did not."""


class Watch:
    """Looks at positions and owners."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.owners: Mapping[int, str] = {}
        self._positions: Mapping[TP, int] = {}
        self._moved_at: dict[TP, float] = {}
        self._pauses: dict[TP, float] = {}
        self._had: dict[int, set[str]] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            positions = await self._broker.positions(ID, TPS)
            self.owners = await owners_of(self._broker, ID)
            now = time.monotonic()
            for tp, position in positions.items():
                if position != self._positions.get(tp):
                    self._note(tp, now)
                    self._moved_at[tp] = now
            for number, owner in self.owners.items():
                self._had.setdefault(number, set()).add(owner)
            self._positions = positions
            await asyncio.sleep(EVERY)

    def _note(self, tp: TP, now: float) -> None:
        pause = now - self._moved_at.get(tp, now)
        self._pauses[tp] = max(self._pauses.get(tp, 0.0), pause)

    def begin(self) -> None:
        """A step begins: forget what was before."""
        self._pauses = {}
        self._had = {number: {owner} for number, owner in self.owners.items()}

    def end(self) -> Paused:
        """A step is over. What stands still now has done so until now."""
        now = time.monotonic()
        for tp in TPS:
            self._note(tp, now)
        moved = {tp for tp in TPS if len(self._had.get(tp.partition, ())) > 1}
        return Paused(
            max((self._pauses[tp] for tp in moved), default=0.0),
            max((self._pauses[tp] for tp in TPS if tp not in moved), default=0.0),
        )


async def owners_of(broker: Broker, group: str) -> Mapping[int, str]:
    """Who owns which number."""
    assignment = (await broker.group_state(group)).assignment
    return {number: owned.member for number, owned in assignment.owners.items() if owned.member}


def shares_of(owners: Mapping[int, str]) -> Sequence[int]:
    """How many partitions each owner has, the largest first."""
    return sorted(Counter(owners.values()).values(), reverse=True)


async def until_even(broker: Broker, group: str, workers: int, partitions: int) -> Sequence[int]:
    """Return shares when all partitions are owned, and nobody has two more than another."""
    async with asyncio.timeout(SETTLE_FOR):
        while True:
            shares = shares_of(await owners_of(broker, group))
            whole = len(shares) == workers and sum(shares) == partitions
            if whole and shares[0] - shares[-1] <= 1:
                return shares
            await asyncio.sleep(EVERY)


class Replicas:
    """The workers, in the order of their starts."""

    def __init__(self, module: str, environ: Mapping[str, str], directory: Path) -> None:
        self._module = module
        self._environ = environ
        self._directory = directory
        self._running: list[asyncio.subprocess.Process] = []

    def __len__(self) -> int:
        return len(self._running)

    @property
    def pids(self) -> Sequence[int]:
        """Of those that run."""
        return [process.pid for process in self._running]

    def assert_running(self) -> None:
        """None has ended that was not told to."""
        ended = [process.pid for process in self._running if process.returncode is not None]
        assert not ended, (self._directory / "workers.log").read_text(encoding="utf-8")[-2000:]

    async def start(self, count: int) -> None:
        """Start so many more."""
        for _ in range(count):
            with (self._directory / "workers.log").open("ab") as log:
                self._running.append(
                    await asyncio.create_subprocess_exec(
                        *(sys.executable, "-m", "faust", "--loop", "uvloop", "-A", self._module),
                        *("--datadir", str(self._directory), "worker", "--without-web"),
                        env={**os.environ, **self._environ},
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        preexec_fn=die_with_parent(signal.SIGKILL),
                    )
                )

    async def end(self, count: int, sig: signal.Signals) -> None:
        """End the oldest ones by a signal, and wait until they have."""
        ending, self._running = self._running[:count], self._running[count:]
        for process in ending:
            process.send_signal(sig)
        await asyncio.gather(*(process.wait() for process in ending))


class Step(NamedTuple):
    """Something that happens to the workers."""

    name: str
    come: int = 0
    go: int = 0
    sig: signal.Signals = signal.SIGTERM


STEPS = [
    Step("1 starts", come=1),
    Step("3 more start", come=3),
    Step("4 more start", come=4),
    Step("1 is killed with -9", go=1, sig=signal.SIGKILL),
    Step("1 leaves gracefully", go=1),
    Step("4 leave gracefully", go=4),
]


class Place(NamedTuple):
    """Servers, and workers to be started there."""

    valkey: str
    store: str
    broker: Broker
    replicas: Replicas


@asynccontextmanager
async def place_for(module: str, partitions: int) -> AsyncIterator[Place]:
    """Where the application of a module is to work."""
    with tempfile.TemporaryDirectory(prefix="redfaust-bench-") as name:
        directory = Path(name)
        async with (
            running_valkey(directory / "valkey") as valkey,
            running_postgres(directory / "postgres") as postgres,
        ):
            broker = broker_by_url(valkey.url, default_partitions=partitions)
            await broker.open()
            environ = {"BROKER": valkey.url, "STORE": postgres.url}
            yield Place(valkey.url, postgres.url, broker, Replicas(module, environ, directory))
            await broker.close()


async def main() -> None:
    """Take all steps, and print what was seen."""
    async with place_for("tests.bench.scaling_worker", PARTITIONS) as (_, _, broker, replicas):
        await broker.create_topic(TopicSpec(TOPIC, PARTITIONS))
        watch = Watch(broker)
        _print_heading()
        async with asyncio.TaskGroup() as beside:
            tasks = [beside.create_task(work) for work in (_feed(broker), watch.run())]
            for step in STEPS:
                await _take(step, broker, replicas, watch)
            await replicas.end(len(replicas), signal.SIGTERM)
            for task in tasks:
                task.cancel()


async def _take(step: Step, broker: Broker, replicas: Replicas, watch: Watch) -> None:
    watch.begin()
    began = time.monotonic()
    await replicas.start(step.come)
    await replicas.end(step.go, step.sig)
    ended = time.monotonic() - began
    shares = await until_even(broker, ID, len(replicas), PARTITIONS)
    even = time.monotonic() - began
    await asyncio.sleep(CALM)
    paused = watch.end()
    print(  # noqa: T201
        f"{step.name:22} {len(replicas):8} {f'{shares[0]} to {shares[-1]}':>9} {ended:7.2f} s "
        f"{even:7.2f} s {paused.moved:7.2f} s {paused.stayed:7.2f} s"
    )


def _print_heading() -> None:
    print(  # noqa: T201
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{PARTITIONS} partitions, {PARTITIONS / EVERY:,.0f} events/s\n\n"
        f"{'':22} {'workers':>8} {'shares':>9} {'processes':>9} {'shares':>9} "
        f"{'longest pause of':>20}\n"
        f"{'':22} {'':>8} {'':>9} {'ended':>9} {'even':>9} {'moved':>9} {'stayed':>9}"
    )


async def _feed(broker: Broker) -> None:
    for number in itertools.count():
        await broker.append(
            [
                Outgoing(TOPIC, b"1", b"key-%d-%d" % (tp.partition, number % 50), (), tp.partition)
                for tp in TPS
            ]
        )
        await asyncio.sleep(EVERY)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
