"""One run: processes, writer and torturer at work together, then peace, then the check."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from redfaust.brokers.broker import Broker, TopicSpec
from redfaust.errors import BrokerUnavailable, DatabaseUnavailable
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.transports.by_url import broker_by_url
from tests.rights import as_owner, as_worker
from tests.torture import ledger
from tests.torture.appending import appending_to
from tests.torture.checker import Violation, check
from tests.torture.faults import Fault, schedule
from tests.torture.history import behind, collect, parked, unpublished
from tests.torture.on_cluster import Cluster, OnCluster
from tests.torture.on_kafka import Kafka
from tests.torture.on_postgres import OnPostgres
from tests.torture.on_processes import OnProcesses
from tests.torture.on_redis import OnRedis
from tests.torture.plan import make_plan
from tests.torture.processes import Process, running, tell
from tests.torture.progress import Progress
from tests.torture.redis_pair import Pair
from tests.torture.servers import BrokerKind, Servers, running_servers
from tests.torture.strikes import Strikes
from tests.torture.torturer import Torturer
from tests.torture.writer import CREATE, Writer

RELAYS = 2
"""One works and the other stands by, until it is the other way round."""
LOOK_EVERY = 0.1
"""Seconds between two looks at what is still to be done."""
STALLED_AFTER = 60.0
"""Seconds without any progress after which nothing will come any more."""

PROCESSED = "everything is processed"
STOPPED = "graceful stop"
RESUMED = "goes on after a fault"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What makes a run the same run again."""

    seed: int
    transfers: int
    seconds: float
    """For which transfers are written and faults happen."""
    faults: Mapping[Fault, int]
    workers: int = 4
    """Beside one that joins and leaves, if that is one of the faults."""
    broker: BrokerKind = BrokerKind.PAIR
    resumes_within: float | None = None
    """Seconds after a fault within which all partitions go on; ``None``: it takes what it takes."""
    build: str | None = None
    """One that is broken on purpose; see :mod:`tests.torture.broken`."""
    postgres_options: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Report:
    """What a run did, and what it found."""

    faults: Mapping[Fault, int]
    impossible: Mapping[Fault, str]
    """Those that cannot be done here, and why."""
    longest: Mapping[Fault, float]
    """Seconds without progress of some partition, after each kind of fault."""
    violations: Mapping[str, Sequence[Violation]]
    """By invariant, also those that hold."""
    notes: Mapping[str, int]
    """What else may interest, in numbers."""

    @property
    def all_violations(self) -> list[Violation]:
        """Of all invariants."""
        return [violation for found in self.violations.values() for violation in found]

    @property
    def told(self) -> str:
        """All violations, a line for each."""
        return "\n".join(map(str, self.all_violations))


async def run(settings: Settings, directory: Path) -> Report:
    """Torture an installation that is set up in a directory, and check what came of it."""
    async with running_servers(directory, settings.postgres_options, settings.broker) as servers:
        owner = as_owner(servers.postgres.url)
        database = await Database.connect(owner, application_name="torture")
        broker = broker_by_url(
            servers.broker.url,
            default_partitions=ledger.PARTITIONS,
            store=as_worker(servers.postgres.url),
        )
        try:
            await migrate(database)
            await broker.open()
            await database.pool.execute(CREATE)
            await _create_tables({**_environ(settings, servers), ledger.DATABASE_VARIABLE: owner})
            await broker.create_topic(TopicSpec(ledger.TRANSFERS, ledger.PARTITIONS))
            return await _run(settings, directory, servers, broker, database)
        finally:
            await broker.close()
            await database.close()


async def _run(
    settings: Settings, directory: Path, servers: Servers, broker: Broker, database: Database
) -> Report:
    workers, joining, relays = _processes(settings, directory, servers)
    processes = [*workers, joining, *relays]
    plan = make_plan(settings.seed, settings.transfers)
    writer = Writer(plan, appending_to(servers.broker), database)
    progress = Progress(broker, database)
    strikes = {
        **OnProcesses(settings.seed, workers, joining, relays).strikes,
        **_on_broker(settings.seed, servers.broker, writer.appending),
        **OnPostgres(settings.seed, servers).strikes,
    }
    torturer = Torturer(strikes, progress)
    async with running(processes) as stop:
        watching = asyncio.create_task(progress.run())
        async with asyncio.TaskGroup() as group:
            group.create_task(writer.run(settings.seconds))
            faults = schedule(settings.seed, settings.seconds, settings.faults)
            group.create_task(torturer.run(faults))
        logger.info("everything is written, and no fault will come any more")
        stalled = await _settle(broker, database)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        if stalled:
            await tell(processes)
        endings = zip(processes, await stop(), strict=True)
    failovers = torturer.done[Fault.REDIS_DIED] + torturer.done[Fault.REDIS_CUT_OFF]
    history = await collect(plan, broker, database, failed_over=failovers > 0)
    notes = {
        "events on streams": sum(map(len, history.streams.values())),
        "dead letters": len(history.letters),
        "writes whose answer was lost": writer.unsure,
        "processes that ended by themselves": sum(len(each.ended_by_itself) for each in processes),
    }
    violations = {
        PROCESSED: stalled,
        STOPPED: _not_graceful(endings),
        RESUMED: _too_late(progress.longest, settings.resumes_within),
        **check(history),
    }
    return Report(torturer.done, torturer.impossible, progress.longest, violations, notes)


def _on_broker(seed: int, broker: Pair | Cluster | Kafka, appending: asyncio.Lock) -> Strikes:
    match broker:
        case Pair():
            return OnRedis(seed, broker, appending).strikes
        case Cluster():
            return OnCluster(seed, broker, appending).strikes
        case Kafka():
            return {}


def _too_late(longest: Mapping[Fault, float], within: float | None) -> Sequence[Violation]:
    return [
        Violation(RESUMED, fault.value, f"{seconds:.1f} s instead of {within} s at most")
        for fault, seconds in longest.items()
        if within is not None and seconds > within
    ]


def _not_graceful(endings: Iterable[tuple[Process, int | None]]) -> Sequence[Violation]:
    return [
        Violation(STOPPED, process.name, f"ended with {code} instead of 0: {process.tail()}")
        for process, last in endings
        for code in (*process.left_with, last)
        if code != 0
    ]


async def _create_tables(environ: Mapping[str, str]) -> None:
    """As an owner does, before workers start that may only read and write."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "faust", "-A", "tests.torture.worker", "create-tables"),
        env={**os.environ, **environ},
    )
    if await process.wait() != 0:
        raise RuntimeError("the tables could not be created")


def _environ(settings: Settings, servers: Servers) -> Mapping[str, str]:
    return {
        ledger.SEED_VARIABLE: str(settings.seed),
        ledger.BROKER_VARIABLE: servers.broker.url,
        ledger.DATABASE_VARIABLE: servers.database_url,
        "REDFAUST_BROKER": servers.broker.url,
        "REDFAUST_DATABASE": servers.database_url,
        "REDFAUST_PARTITIONS": str(ledger.PARTITIONS),
        "REDFAUST_LOG_LEVEL": "warning",
    }


def _processes(
    settings: Settings, directory: Path, servers: Servers
) -> tuple[Sequence[Process], Process, Sequence[Process]]:
    """Workers, the one that is to join, and relays."""
    environ = _environ(settings, servers)
    worker, relay = ["tests.torture.worker"], ["app", "relay"]
    if settings.build:
        worker, relay = (
            ["tests.torture.broken", settings.build, part] for part in ("worker", "relay")
        )
    *workers, joining = [
        Process(f"worker-{number}", worker, environ, directory)
        for number in range(settings.workers + 1)
    ]
    relays = [Process(f"relay-{number}", relay, environ, directory) for number in range(RELAYS)]
    joining.wanted.clear()
    return workers, joining, relays


async def _settle(broker: Broker, database: Database) -> Sequence[Violation]:
    """Wait until everything is processed, what follows from it included, or nothing moves.

    What has come to its end stays there, since nothing before it moves any more.
    """

    async def outbox() -> Sequence[int]:
        return [await unpublished(database)]

    async def transfers() -> Sequence[int]:
        return await behind(broker, database, ledger.TRANSFERS)

    async def entries() -> Sequence[int]:
        return await behind(broker, database, ledger.ENTRIES)

    async def lines() -> Sequence[int]:
        return [await parked(database)]

    for look in (outbox, transfers, lines, outbox, entries, lines, outbox):
        left = await _until_zero(look)
        if left is not None:
            return [Violation(PROCESSED, look.__name__, f"nothing moves, {left} to go")]
        logger.info("nothing is left of %s", look.__name__)
    return []


async def _until_zero(look: Callable[[], Awaitable[Sequence[int]]]) -> Sequence[int] | None:
    """``None`` when nothing is left; otherwise what is, when it has not changed for long."""
    seen: Sequence[int] = []
    while True:
        try:
            async with asyncio.timeout(STALLED_AFTER):
                while (now := await _look(look)) == seen:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            return seen
        if not any(now):
            return None
        seen = now


async def _look(look: Callable[[], Awaitable[Sequence[int]]]) -> Sequence[int]:
    while True:
        try:
            return await look()
        except (BrokerUnavailable, DatabaseUnavailable):  # the last faults may still be felt
            await asyncio.sleep(LOOK_EVERY)
