"""Takes a snapshot of broker and database, has it judged, and puts both into a status."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from faust.types import TP

from app.schema import SHOP, newest_migrations
from app.status import broker_facts, database_facts
from app.status.asking import Asker
from app.status.judgement import judge
from app.status.models import (
    Agent,
    DeadLetterHeading,
    DeadLettersPart,
    OutboxPart,
    ParkedPart,
    Partition,
    RelayPart,
    RetryingPart,
    Status,
    Topic,
    Worker,
    WorkerAgent,
)
from app.status.shop import ShopParts, ask_shop
from app.status.snapshot import Cause, Group, Known, Letters, Retrying, Snapshot, Unknown
from app.status.sources import Sources
from redfaust.brokers.broker import Broker, PartitionSurvey
from redfaust.postgres.database import Database
from redfaust.processing import dead_letters
from redfaust.processing.dead_letters import DeadLetters, DeadLetterState

SHOWN = 10
"""Entries of each list that only shows the latest."""
PATIENCE = 0.8
"""Seconds for each question, all of which are asked at once: the whole answers within a second."""
PATIENCE_AT_ONCE = 2.5
"""Seconds for each question of a process that asks once, and has just started."""

T = TypeVar("T")


class _Extra(NamedTuple):
    """What is shown and not judged."""

    latest: Known[Sequence[dead_letters.DeadLetterHeading]]
    shop: Known[ShopParts]


class Watch:
    """Knows how an application is.

    A caller that comes while it is looking gets what it sees then: broker and database are asked
    once, however many look at it.
    """

    def __init__(self, sources: Sources, app: str, *, patience: float = PATIENCE) -> None:
        self._broker, self._database = sources.broker, sources.database
        self._app = app
        self._asker = Asker(patience)
        self._looking: asyncio.Task[Status] | None = None

    async def look(self) -> Status:
        """The status now. Never raises because something is away; ``problems`` says so instead."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        return await asyncio.shield(self._looking)

    async def close(self) -> None:
        """Give up what is not answered."""
        await self._asker.close()

    async def _look(self) -> Status:
        snapshot, extra = await self._snapshot()
        return _status(snapshot, judge(snapshot), extra)

    async def _snapshot(self) -> tuple[Snapshot, _Extra]:
        app = self._app
        of_broker = asyncio.gather(
            self._ask_broker("group", lambda b: broker_facts.ask_group(b, app)),
            self._ask_broker("relays", broker_facts.ask_relays),
            self._ask_broker("logs", lambda b: broker_facts.ask_logs(b, app)),
            self._ask_broker("held", broker_facts.ask_held),
            self._ask_broker("troubles", lambda b: b.troubles()),
            self._ask_broker("anomalies", broker_facts.ask_anomalies),
        )
        of_database = asyncio.gather(
            self._ask_database("server", database_facts.ask_server),
            self._ask_database("identity", database_facts.ask_identity),
            self._ask_database(
                "schemas", lambda d: database_facts.ask_schemas(d, newest_migrations(app))
            ),
            self._ask_database("outbox", database_facts.ask_outbox),
            self._ask_database("retrying", lambda d: database_facts.ask_retrying(d, app)),
            self._ask_database("locks", database_facts.ask_locks),
        )
        of_events = asyncio.gather(
            self._ask_database("letters", lambda d: database_facts.ask_letters(d, app)),
            self._ask_database("progress", lambda d: database_facts.ask_progress(d, app)),
            self._ask_database("latest", self._latest),
            self._ask_shop(),
        )
        group, relays, logs, held, troubles, anomalies = await of_broker
        server, identity, schemas, outbox, retrying, locks = await of_database
        letters, progress, latest, shop = await of_events
        snapshot = Snapshot(
            app=app,
            at=datetime.now(UTC),
            group=group,
            relays=relays,
            logs=logs,
            held=held,
            troubles=troubles,
            anomalies=anomalies,
            server=server,
            identity=identity,
            schemas=schemas,
            outbox=outbox,
            retrying=retrying,
            letters=letters,
            progress=progress,
            locks=locks,
            shown={"latest dead letters": latest, "orders and mails": shop},
            unreadable_rows=() if isinstance(shop, Unknown) else shop.unreadable,
        )
        return snapshot, _Extra(latest, shop)

    async def _ask_broker(self, name: str, question: Callable[[Broker], Awaitable[T]]) -> Known[T]:
        broker = self._broker
        if isinstance(broker, Unknown):
            return broker
        return await self._asker.ask(f"broker: {name}", lambda: question(broker))

    async def _ask_database(
        self, name: str, question: Callable[[Database], Awaitable[T]]
    ) -> Known[T]:
        database = self._database
        if isinstance(database, Unknown):
            return database
        return await self._asker.ask(f"database: {name}", lambda: question(database))

    async def _latest(self, database: Database) -> Sequence[dead_letters.DeadLetterHeading]:
        return await DeadLetters(database).list(
            app=self._app, state=DeadLetterState.WAITING, limit=SHOWN
        )

    async def _ask_shop(self) -> Known[ShopParts]:
        if self._app != SHOP:
            return Unknown(Cause.MISSING, "only the shop has them")
        return await self._ask_database("shop", ask_shop)


# -- what is shown of it ---------------------------------------------------------------------


def _status(s: Snapshot, problems: Sequence[object], extra: _Extra) -> Status:
    group = None if isinstance(s.group, Unknown) else s.group
    logs = None if isinstance(s.logs, Unknown) else s.logs
    shop = None if isinstance(extra.shop, Unknown) else extra.shop
    return Status.model_validate(
        {
            "app": s.app,
            "at": s.at,
            "problems": problems,
            "workers": group and group.workers,
            "relays": _relays(s),
            "agents": None if group is None else _agents(s, group, logs or {}),
            "topics": None if logs is None else _topics(s, group or Group(), logs),
            "outbox": _outbox(s),
            "parked": None if isinstance(s.retrying, Unknown) else _parked(s.retrying),
            "retrying": None
            if isinstance(s.retrying, Unknown)
            else [_retrying(each) for each in s.retrying],
            "dead_letters": _letters(s.letters, extra.latest),
            "mails": shop and shop.mails,
            "orders": shop and shop.orders,
        }
    )


def _relays(s: Snapshot) -> Sequence[RelayPart] | None:
    if isinstance(s.relays, Unknown):
        return None
    return [
        RelayPart(name=each.name, role=each.role, app=each.app, host=each.host, pid=each.pid)
        for each in s.relays.relays
        if isinstance(s.identity, Unknown) or each.database == s.identity
    ]


def _topics(s: Snapshot, group: Group, logs: Mapping[TP, PartitionSurvey]) -> list[Topic]:
    owners = {owned: worker.name for worker in group.workers for owned in worker.owns}
    held = {} if isinstance(s.held, Unknown) else s.held
    found: dict[str, list[Partition]] = defaultdict(list)
    for tp, survey in logs.items():
        ours = {g: p for g, p in survey.groups.items() if broker_facts.belongs(g, s.app)}
        ordered = ours.get(s.app)
        ages = [each.oldest_age for each in ours.values() if each.oldest_age is not None]
        holders = held[tp.topic].groups.get(tp.partition, ()) if tp.topic in held else ()
        found[tp.topic].append(
            Partition(
                partition=tp.partition,
                length=survey.length,
                lag=lag_of(survey, s.app),
                oldest_age_seconds=max(ages, default=None),
                pending=sum(each.claimed for each in ours.values()),
                position=None if ordered is None else str(ordered.position),
                owner=owners.get((tp.topic, tp.partition)),
                held_by=tuple(sorted(holders)),
            )
        )
    return [Topic(name=name, partitions=tuple(partitions)) for name, partitions in found.items()]


def lag_of(survey: PartitionSurvey, app: str) -> int:
    """Entries that a group of the application has not finished, of the one furthest behind."""
    return max(
        (each.lag for name, each in survey.groups.items() if broker_facts.belongs(name, app)),
        default=0,
    )


def _agents(s: Snapshot, group: Group, logs: Mapping[TP, PartitionSurvey]) -> list[Agent]:
    waiting: Counter[str] = Counter()
    for survey in logs.values():
        for name, progress in survey.groups.items():
            agent = broker_facts.agent_of(name)
            if agent is not None and broker_facts.belongs(name, s.app):
                waiting[agent] += progress.lag
    seen: dict[str, list[tuple[Worker, WorkerAgent]]] = defaultdict(list)
    for worker in group.workers:
        for each in worker.agents:
            seen[each.name].append((worker, each))
    return [
        Agent(
            name=name,
            topics=tuple(sorted({topic for _, agent in agents for topic in agent.topics})),
            workers=len(agents),
            processed=sum(agent.processed for _, agent in agents),
            failed=sum(agent.failed for _, agent in agents),
            retried=sum(agent.retried for _, agent in agents),
            waiting=waiting[name] if any(agent.shared for _, agent in agents) else None,
        )
        for name, agents in sorted(seen.items())
    ]


def _outbox(s: Snapshot) -> OutboxPart | None:
    if isinstance(s.outbox, Unknown):
        return None
    return OutboxPart(
        depth=s.outbox.depth,
        oldest_age_seconds=s.outbox.oldest_age,
        scheduled=s.outbox.scheduled,
    )


def _parked(retrying: Sequence[Retrying]) -> ParkedPart:
    topics: Counter[str] = Counter()
    for each in retrying:
        topics[each.topic] += each.events
    return ParkedPart(waiting=topics.total(), topics=dict(sorted(topics.items())))


def _retrying(each: Retrying) -> RetryingPart:
    return RetryingPart(
        agent=each.agent,
        topic=each.topic,
        events=each.events,
        attempts=each.attempts,
        since=each.since,
        next_attempt=each.next_attempt,
        error_type=each.error_type,
        error=each.error,
    )


def _letters(
    letters: Known[Letters], latest: Known[Sequence[dead_letters.DeadLetterHeading]]
) -> DeadLettersPart | None:
    if isinstance(letters, Unknown) or isinstance(latest, Unknown):
        return None
    return DeadLettersPart(waiting=letters.waiting, latest=tuple(map(DeadLetterHeading.of, latest)))
