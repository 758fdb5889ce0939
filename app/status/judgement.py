"""What is wrong: compares what should be with what is.

A pure function, used by the page, the API, the command line and its exit code, by health and the
metrics, so that they agree.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from faust.types import TP

from app.status.broker_facts import agent_of, belongs
from app.status.problems import Kind, Problem, Severity
from app.status.snapshot import (
    Cause,
    Group,
    Known,
    Letters,
    LockWait,
    Outbox,
    Progress,
    Relays,
    Retrying,
    Schema,
    Server,
    Snapshot,
    Unknown,
)
from redfaust.brokers.broker import GroupProgress, PartitionSurvey, ServerTrouble, Trouble

OVERDUE_AFTER = 5.0
"""Seconds after which a relay should have published what is due."""
STALLED_AFTER = 6.0
"""Seconds without a finished event, while some wait, after which agents count as stuck."""
LATE_AFTER = 30.0
"""Seconds after which an event should be finished, though others are."""
UNOWNED_AFTER = 4.0
"""Seconds after which a free partition should have an owner; handing over takes less."""
RETRYING_AFTER = 4.0
"""Seconds after which a failing event is no passing trouble."""
NEW_FOR = timedelta(minutes=15)
"""How long a dead letter is news."""
NAMED = 5
"""Members and partitions that a sentence names at most."""

_TROUBLES = {
    Trouble.FULL: (
        Kind.BROKER_FULL,
        Severity.STOPPED,
        "raise maxmemory, or let topics keep less (`retention`)",
    ),
    Trouble.READ_ONLY: (
        Kind.BROKER_READ_ONLY,
        Severity.STOPPED,
        "name the primary in the broker's URL, or use redis+sentinel://",
    ),
    Trouble.EVICTS: (Kind.BROKER_EVICTS, Severity.WRONG, "set maxmemory-policy to noeviction"),
}


def judge(snapshot: Snapshot) -> tuple[Problem, ...]:
    """Everything that is wrong, the worst first."""
    found = [*_broker(snapshot), *_database(snapshot)]
    order = list(Severity)
    return tuple(sorted(found, key=lambda problem: order.index(problem.severity)))


def _broker(s: Snapshot) -> Iterator[Problem]:
    questions: Mapping[str, Known[object]] = {
        "members": s.group,
        "relays": s.relays,
        "topics": s.logs,
        "retention": s.held,
        "state of the broker": s.troubles,
        "anomalies": s.anomalies,
    }
    if (down := _down(s.group, s.relays, s.logs)) is not None:
        yield _stopped(Kind.BROKER_DOWN, f"The broker cannot be reached: {down.why}", _START_BROKER)
    else:
        yield from _unasked(questions, Kind.BROKER_DOWN)
    if not isinstance(s.troubles, Unknown):
        yield from _servers(s.troubles)
    if not isinstance(s.anomalies, Unknown):
        for place, what in s.anomalies:
            text = f"{place}: {what}"
            yield _wrong(Kind.ANOMALY, text, "look at who wrote it there, and delete it")
    if not isinstance(s.group, Unknown):
        yield from _members(s, s.group)
    if not isinstance(s.relays, Unknown):
        yield from _relays(s, s.relays)
    if not isinstance(s.logs, Unknown):
        yield from _logs(s, s.logs)
    if not isinstance(s.held, Unknown):
        for held in s.held.values():
            text, _, step = held.text.partition(": ")
            yield _wrong(Kind.RETENTION_HELD, text, step or "have the group work")


_START_BROKER = "check that it runs, and REDFAUST_BROKER"
_START_DATABASE = "check that Postgres runs, and REDFAUST_DATABASE"


def _database(s: Snapshot) -> Iterator[Problem]:
    questions: Mapping[str, Known[object]] = {
        "state of the database": s.server,
        "name of the database": s.identity,
        "schema": s.schemas,
        "outbox": s.outbox,
        "retries": s.retrying,
        "dead letters": s.letters,
        "progress": s.progress,
        "locks": s.locks,
        **s.shown,
    }
    if (down := _down(s.server, s.outbox, s.letters)) is not None:
        text = f"The database cannot be reached: {down.why}"
        yield _stopped(Kind.DATABASE_DOWN, text, _START_DATABASE)
    else:
        schemas = s.schemas
        if isinstance(schemas, Unknown):
            if schemas.cause is Cause.MISSING:
                yield _schema_missing()
        else:
            yield from _schemas(schemas)
        yield from _unasked(questions, Kind.DATABASE_DOWN)
    if not isinstance(s.server, Unknown):
        yield from _server(s.server)
    if not isinstance(s.outbox, Unknown):
        yield from _outbox(s, s.outbox)
    if not isinstance(s.retrying, Unknown):
        yield from _retrying(s, s.retrying)
    if not isinstance(s.letters, Unknown):
        yield from _letters(s, s.letters)
    if not isinstance(s.locks, Unknown):
        yield from _locks(s, s.locks)
    if s.unreadable_rows:
        yield _wrong(
            Kind.ROW_UNREADABLE,
            f"Rows cannot be read: {_some(s.unreadable_rows)}",
            "mend them by SQL, or delete them",
        )


# -- what could not be asked -----------------------------------------------------------------


def _down(*answers: Known[object]) -> Unknown | None:
    """Why no answer came at all. One that is slow alone is not a server that is away."""
    unknown = [answer for answer in answers if isinstance(answer, Unknown)]
    for each in unknown:
        if each.cause is Cause.AWAY:
            return each
    silent = [each for each in unknown if each.cause is Cause.SILENT]
    return silent[0] if len(silent) == len(answers) else None


def _unasked(questions: Mapping[str, Known[object]], down: Kind) -> Iterator[Problem]:
    forbidden: dict[str, list[str]] = defaultdict(list)
    for name, answer in questions.items():
        match answer:
            case Unknown(Cause.FORBIDDEN, why):
                forbidden[why].append(name)
            case Unknown(Cause.MISSING):
                pass  # the schema says so
            case Unknown(_, why):
                yield _wrong(
                    Kind.UNASKED, f"The {name} could not be asked: {why}", "look again in a moment"
                )
    whose = "Redis user" if down is Kind.BROKER_DOWN else "database role"
    for why, names in forbidden.items():
        yield _stopped(
            Kind.RIGHTS_MISSING,
            f"The {whose} of this process may not ask for {', '.join(names)}: {why}",
            f"grant the {whose} this right, as the owner",
        )


# -- the broker ------------------------------------------------------------------------------


def _servers(troubles: Sequence[ServerTrouble]) -> Iterator[Problem]:
    for trouble, what in troubles:
        kind, severity, step = _TROUBLES[trouble]
        yield Problem(kind=kind, severity=severity, text=what, first_step=step)


def _members(s: Snapshot, group: Group) -> Iterator[Problem]:
    for name, since in {**group.lost, **group.silent}.items():
        yield _wrong(
            Kind.WORKER_LOST,
            f"The worker {name} is gone without having left: it was killed, or hangs",
            f"look at its log; if it is gone for good, `redfaust worker forget {name}`",
            since,
        )
    for name, fields in group.unreadable.items():
        text = f"The worker {name} announces itself in another form: {fields}"
        yield _wrong(Kind.WORKER_UNREADABLE, text, "run the same release everywhere")
    if not group.workers and not group.unreadable:
        last = [since for since in {**group.lost, **group.silent}.values() if since]
        yield _stopped(
            Kind.NO_WORKER,
            "No worker is running: events wait",
            "start one: `redfaust worker` for the shop, otherwise `faust -A <module> worker`",
            max(last, default=None),
        )
        return
    if group.workers and all(worker.drained for worker in group.workers):
        names = _some(worker.name for worker in group.workers)
        yield _wrong(
            Kind.ALL_DRAINED,
            f"All workers are drained: {names}",
            "start another worker, or `redfaust worker drain --back NAME`",
        )
    unowned = {
        number: since
        for number, since in group.unowned.items()
        if since is None or s.at - since > timedelta(seconds=UNOWNED_AFTER)
    }
    if unowned:
        yield _stopped(
            Kind.PARTITIONS_UNOWNED,
            f"No worker owns the partitions {_some(map(str, sorted(unowned)), 12)}: "
            "their events wait",
            "start a worker; if there are some, look at `redfaust workers` and their logs",
            min((since for since in unowned.values() if since), default=None),
        )


def _relays(s: Snapshot, relays: Relays) -> Iterator[Problem]:
    workers = set() if isinstance(s.group, Unknown) else {*s.group.lost, *s.group.silent}
    for name, since in {**relays.lost, **relays.silent}.items():
        if name in workers:
            continue  # it was the worker's own
        yield _wrong(
            Kind.RELAY_LOST,
            f"The relay {name} is gone without having stopped: it was killed, or hangs",
            f"look at its log; if it is gone for good, `redfaust worker forget --relay {name}`",
            since,
        )
    if isinstance(s.outbox, Unknown):
        return
    here = [r for r in relays.relays if isinstance(s.identity, Unknown) or r.database == s.identity]
    waits = s.outbox.oldest_age > OVERDUE_AFTER or s.outbox.scheduled
    if not here and waits:
        yield Problem(
            kind=Kind.NO_RELAY,
            severity=Severity.STOPPED if s.outbox.depth else Severity.WRONG,
            text=f"No relay is running for this database: {s.outbox.depth} events wait to be "
            f"published, and {s.outbox.scheduled} are scheduled",
            first_step="start `redfaust relay`, or a worker without --no-relay",
            since=s.at - timedelta(seconds=s.outbox.oldest_age) if s.outbox.depth else None,
        )


# -- events that wait ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Events that one reader has not finished in one partition."""

    number: int
    lag: int
    since: datetime
    """When the oldest was appended."""
    finished: datetime | None
    """When the last one was finished."""


def _logs(s: Snapshot, logs: Mapping[TP, PartitionSurvey]) -> Iterator[Problem]:
    for tp, survey in logs.items():
        if survey.blocked is not None:
            text = f"Partition {tp.partition} of {tp.topic} is blocked: {survey.blocked}"
            yield _wrong(Kind.LOG_BLOCKED, text, "until then its events wait, in the outbox too")
    if not isinstance(s.group, Unknown) and not s.group.workers:
        return  # what waits, waits for a worker
    waiting = _all_waiting(s, logs)
    stalled = [each for some in waiting.values() for each in some if _is_stalled(s, each)]
    everything = sum(map(len, waiting.values()))
    severity = Severity.STOPPED if len(stalled) == everything else Severity.WRONG
    for (reader, topic), some in waiting.items():
        stuck = [each for each in some if _is_stalled(s, each)]
        late = [each for each in some if not _is_stalled(s, each) and _age(s, each) > LATE_AFTER]
        if stuck:
            since = min(max(each.since, each.finished or each.since) for each in stuck)
            yield Problem(
                kind=Kind.STALLED,
                severity=severity,
                text=f"{_number(stuck)} events of {topic} wait for {reader}, on the partitions "
                f"{_partitions(stuck)}, and none is finished",
                first_step="look at what the agents are waiting for: other servers, locks, a loop",
                since=since,
            )
        if late:
            yield _wrong(
                Kind.LATE,
                f"{_number(late)} events of {topic} wait for {reader}, on the partitions "
                f"{_partitions(late)}",
                "if the number does not shrink, start more workers, or make the agents faster",
                min(each.since for each in late),
            )


def _all_waiting(
    s: Snapshot, logs: Mapping[TP, PartitionSurvey]
) -> Mapping[tuple[str, str], Sequence[_Waiting]]:
    """By reader and topic. What waits for another attempt is not counted here."""
    progress = s.progress if not isinstance(s.progress, Unknown) else Progress({}, {})
    tried_again = _tried_again(s)
    found: dict[tuple[str, str], list[_Waiting]] = defaultdict(list)
    for tp, survey in logs.items():
        for group, of_group in survey.groups.items():
            if not belongs(group, s.app) or not of_group.lag or of_group.oldest_age is None:
                continue
            agent = agent_of(group)
            if agent is not None and _is_tried_again(tried_again, agent, tp, logs, group):
                continue
            done = progress.partitions.get(tp) if agent is None else progress.agents.get(agent)
            reader = "the ordered agents" if agent is None else agent
            found[reader, tp.topic].append(_one(s, tp, of_group, of_group.oldest_age, done))
    return found


def _one(
    s: Snapshot, tp: TP, group: GroupProgress, age: float, finished: datetime | None
) -> _Waiting:
    return _Waiting(tp.partition, group.lag, s.at - timedelta(seconds=age), finished)


def _tried_again(s: Snapshot) -> Mapping[tuple[str, str], int]:
    if isinstance(s.retrying, Unknown):
        return {}
    return {(each.agent, each.topic): each.events for each in s.retrying}


def _is_tried_again(
    tried_again: Mapping[tuple[str, str], int],
    agent: str,
    tp: TP,
    logs: Mapping[TP, PartitionSurvey],
    group: str,
) -> bool:
    """Whether all that an agent with shared delivery has not finished waits for another attempt."""
    lag = sum(
        survey.groups[group].lag
        for other, survey in logs.items()
        if other.topic == tp.topic and group in survey.groups
    )
    return lag <= tried_again.get((agent, tp.topic), 0)


def _age(s: Snapshot, waiting: _Waiting) -> float:
    return (s.at - waiting.since).total_seconds()


def _is_stalled(s: Snapshot, waiting: _Waiting) -> bool:
    finished = waiting.finished
    idle = finished is None or (s.at - finished).total_seconds() > STALLED_AFTER
    return idle and _age(s, waiting) > STALLED_AFTER


def _number(some: Sequence[_Waiting]) -> str:
    return f"{sum(each.lag for each in some):,}"


def _partitions(some: Sequence[_Waiting]) -> str:
    return _some((str(each.number) for each in some), 12)


# -- the database ----------------------------------------------------------------------------


def _server(server: Server) -> Iterator[Problem]:
    if server.is_standby:
        yield _stopped(
            Kind.DATABASE_READ_ONLY,
            "The database is a standby: nothing can be committed",
            "name the primary in REDFAUST_DATABASE, or all hosts of the cluster",
        )
    elif server.is_read_only:
        yield _stopped(
            Kind.DATABASE_READ_ONLY,
            "The database is read-only (default_transaction_read_only): nothing can be committed",
            "ask who set it; `ALTER SYSTEM RESET default_transaction_read_only` ends it",
        )
    if not server.may_publish:
        yield Problem(
            kind=Kind.MAY_NOT_PUBLISH,
            severity=Severity.NOTICE,
            text=f"The role {server.role} may not publish events: it has no right to INSERT into "
            "redfaust.outbox",
            first_step=f"if this process is to take orders, GRANT it: GRANT USAGE ON SCHEMA "
            f"redfaust, INSERT ON redfaust.outbox TO {server.role}",
        )


def _schema_missing() -> Problem:
    return _stopped(
        Kind.SCHEMA_OLD,
        "The database has not been migrated to this release: tables are missing",
        "run `redfaust migrate`, or start a worker",
    )


def _schemas(schemas: Sequence[Schema]) -> Iterator[Problem]:
    for schema in schemas:
        if schema.applied < schema.known:
            yield _stopped(
                Kind.SCHEMA_OLD,
                f"The database's schema {schema.namespace} is at migration {schema.applied}, and "
                f"this release needs {schema.known}",
                "run `redfaust migrate`",
            )
        if schema.applied > schema.known:
            yield _stopped(
                Kind.SCHEMA_NEW,
                f"The database's schema {schema.namespace} is at migration {schema.applied}, and "
                f"this release ends at {schema.known}",
                "start the release that migrated it, or a newer one",
            )


def _outbox(s: Snapshot, outbox: Outbox) -> Iterator[Problem]:
    step = "look at the relays (`redfaust workers`) and their logs: is the broker there?"
    if outbox.oldest_age > OVERDUE_AFTER:
        yield _stopped(
            Kind.OUTBOX_OVERDUE,
            f"{outbox.depth:,} events are committed and not published",
            step,
            s.at - timedelta(seconds=outbox.oldest_age),
        )
    if outbox.late > OVERDUE_AFTER:
        yield _wrong(
            Kind.SCHEDULED_OVERDUE,
            "Scheduled events are due and not published",
            step,
            s.at - timedelta(seconds=outbox.late),
        )


def _retrying(s: Snapshot, retrying: Sequence[Retrying]) -> Iterator[Problem]:
    for each in retrying:
        if (s.at - each.since).total_seconds() <= RETRYING_AFTER:
            continue
        if each.error_type.endswith("RowUnreadable"):
            yield _wrong(
                Kind.ROW_UNREADABLE,
                f"{each.agent} waits for a row that cannot be read: {each.error}",
                "mend the row by SQL, or delete it",
                each.since,
            )
            continue
        next_one = each.next_attempt
        when = f"{next_one:%H:%M:%S} UTC" if next_one and next_one > s.at else "due now"
        yield _wrong(
            Kind.RETRYING,
            f"{each.agent} fails on {each.topic}, and tries again: {each.events:,} events wait, "
            f"attempt {each.attempts} failed with {each.error_type}: {each.error} "
            f"(next attempt: {when})",
            "mend the cause: what was parked goes on by itself",
            each.since,
        )


def _letters(s: Snapshot, letters: Letters) -> Iterator[Problem]:
    if not letters.waiting or letters.newest is None:
        return
    is_new = s.at - letters.newest < NEW_FOR
    yield Problem(
        kind=Kind.DEAD_LETTERS,
        severity=Severity.WRONG if is_new else Severity.NOTICE,
        text=f"{letters.waiting:,} events were given up and wait for a decision, the latest by "
        f"{letters.newest_error}",
        first_step="`redfaust dead-letters list`; mend the cause, then replay or discard them",
        since=letters.oldest,
    )


def _locks(s: Snapshot, waits: Sequence[LockWait]) -> Iterator[Problem]:
    if not waits:
        return
    worst = waits[0]
    who = ", ".join(map(str, worst.blocked_by)) or "another session"
    yield _wrong(
        Kind.LOCKED,
        f"{len(waits)} sessions wait for a lock in the database, {worst.application} (process "
        f"{worst.pid}) among them, behind process {who} {worst.blocker}".rstrip(),
        f"end that transaction; SELECT pg_terminate_backend({worst.blocked_by[0]}) does"
        if worst.blocked_by
        else "look at pg_locks",
        s.at - timedelta(seconds=worst.seconds),
    )


# -- sentences -------------------------------------------------------------------------------


def _stopped(kind: Kind, text: str, step: str, since: datetime | None = None) -> Problem:
    return Problem(kind=kind, severity=Severity.STOPPED, text=text, first_step=step, since=since)


def _wrong(kind: Kind, text: str, step: str, since: datetime | None = None) -> Problem:
    return Problem(kind=kind, severity=Severity.WRONG, text=text, first_step=step, since=since)


def _some(names: Iterable[str], most: int = NAMED) -> str:
    """The first of some names."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
