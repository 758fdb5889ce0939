"""One run: processes, writer and torturer at work together, then peace, then the check."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connectors.errors import BrokerUnavailable, DatabaseUnavailable
from connectors.postgres.database import Database
from connectors.postgres.migrate import migrate_connectors
from connectors.transports.broker import Broker, TopicSpec
from connectors.transports.brokers import broker_by_url
from tests.torture import ledger
from tests.torture.checker import Violation, check
from tests.torture.faults import Fault, schedule
from tests.torture.history import behind, collect, parked, unpublished
from tests.torture.plan import make_plan
from tests.torture.processes import Process, Servers, running, running_servers
from tests.torture.torturer import Torturer
from tests.torture.writer import CREATE, Writer

WORKERS = 2
"""One works and the other stands by, until it is the other way round."""
LOOK_EVERY = 0.1
"""Seconds between two looks at what is still to be done."""
TOLD_WITHIN = 2.0
"""Seconds that a worker is given to tell what it is doing."""
STALLED_AFTER = 60.0
"""Seconds without any progress after which nothing will come any more."""

PROCESSED = "everything is processed"
STOPPED = "graceful stop"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What makes a run the same run again."""

    seed: int
    transfers: int
    seconds: float
    """For which transfers are written and faults happen."""
    faults: Mapping[Fault, int]
    build: str | None = None
    """One that is broken on purpose; see :mod:`tests.torture.broken`."""
    postgres_options: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Report:
    """What a run did, and what it found."""

    faults: Mapping[Fault, int]
    violations: Mapping[str, Sequence[Violation]]
    """By invariant, also those that hold."""
    notes: Mapping[str, int]
    """What else may interest, in numbers."""

    @property
    def all_violations(self) -> list[Violation]:
        """Of all invariants."""
        return [violation for found in self.violations.values() for violation in found]


async def run(settings: Settings, directory: Path) -> Report:
    """Torture an installation that is set up in a directory, and check what came of it."""
    async with running_servers(directory, settings.postgres_options) as servers:
        database = await Database.connect(servers.postgres.url, application_name="torture")
        broker = broker_by_url(servers.valkey.url, default_partitions=ledger.PARTITIONS)
        try:
            await migrate_connectors(database)
            await database.pool.execute(CREATE)
            await broker.create_topic(TopicSpec(ledger.TRANSFERS, ledger.PARTITIONS))
            return await _run(settings, directory, servers, broker, database)
        finally:
            await broker.close()
            await database.close()


async def _run(
    settings: Settings, directory: Path, servers: Servers, broker: Broker, database: Database
) -> Report:
    workers, relay = _processes(settings, directory, servers)
    plan = make_plan(settings.seed, settings.transfers)
    writer = Writer(plan, servers.valkey.url, database)
    torturer = Torturer(settings.seed, servers, workers, relay, broker, database)
    async with running([*workers, relay]) as stop:
        async with asyncio.TaskGroup() as group:
            group.create_task(writer.run(settings.seconds))
            faults = schedule(settings.seed, settings.seconds, settings.faults)
            group.create_task(torturer.run(faults))
        logger.info("everything is written, and no fault will come any more")
        stalled = await _settle(broker, database)
        if stalled:
            await _ask(workers)
        endings = zip([*workers, relay], await stop(), strict=True)
    history = await collect(plan, broker, database)
    notes = {
        "events on streams": sum(map(len, history.streams.values())),
        "dead letters": len(history.letters),
        "writes whose answer was lost": writer.unsure,
        "processes that ended by themselves": sum(
            len(process.ended_by_itself) for process in (*workers, relay)
        ),
    }
    violations = {PROCESSED: stalled, STOPPED: _not_graceful(endings), **check(history)}
    return Report(torturer.done, violations, notes)


async def _ask(workers: Iterable[Process]) -> None:
    """Have workers write to their logs what they are doing, as Faust's do."""
    for worker in workers:
        worker.send(signal.SIGUSR1)
    await asyncio.sleep(TOLD_WITHIN)


def _not_graceful(endings: Iterable[tuple[Process, int | None]]) -> Sequence[Violation]:
    return [
        Violation(STOPPED, process.name, f"ended with {code} instead of 0, see {process.log}")
        for process, code in endings
        if code != 0
    ]


def _processes(
    settings: Settings, directory: Path, servers: Servers
) -> tuple[Sequence[Process], Process]:
    environ = {
        ledger.SEED_VARIABLE: str(settings.seed),
        ledger.BROKER_VARIABLE: servers.valkey.url,
        ledger.DATABASE_VARIABLE: servers.postgres.url,
        "REDFAUST_BROKER": servers.valkey.url,
        "REDFAUST_DATABASE": servers.postgres.url,
        "REDFAUST_PARTITIONS": str(ledger.PARTITIONS),
        "REDFAUST_LOG_LEVEL": "warning",
    }
    worker, relay = ["tests.torture.worker"], ["app", "relay"]
    if settings.build:
        worker, relay = (
            ["tests.torture.broken", settings.build, part] for part in ("worker", "relay")
        )
    workers = [Process(f"worker-{number}", worker, environ, directory) for number in range(WORKERS)]
    return workers, Process("relay", relay, environ, directory)


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
