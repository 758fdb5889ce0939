"""What is wrong, judged by facts alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from faust.types import TP

from app.status.judgement import STALLED_AFTER, judge
from app.status.models import Worker
from app.status.problems import Kind, Severity
from app.status.snapshot import (
    Cause,
    Group,
    Letters,
    LockWait,
    Outbox,
    Progress,
    Relay,
    Relays,
    Retrying,
    Schema,
    Server,
    Snapshot,
    Unknown,
)
from redfaust.brokers.broker import GroupProgress, PartitionSurvey, ServerTrouble, Trouble

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)
WORKER = Worker(name="w-1~a", pid=7, host="here", started_at=LONG_AGO)
RELAY = Relay("relay-1", "active", "bank", "db")
WELL = Snapshot(
    app="bank",
    at=NOW,
    group=Group(workers=(WORKER,)),
    relays=Relays((RELAY,)),
    logs={},
    held={},
    troubles=(),
    anomalies=(),
    server=Server("bank", is_read_only=False, is_standby=False, may_publish=True),
    identity="db",
    schemas=(Schema("redfaust", 14, 14),),
    outbox=Outbox(0, 0.0, 0, 0.0),
    retrying=(),
    letters=Letters(0, None, None, ""),
    progress=Progress({}, {}),
    locks=(),
)
AWAY, SILENT = Unknown(Cause.AWAY, "refused"), Unknown(Cause.SILENT, "no answer")
ORDERS = TP("orders", 0)


def kinds(**facts: Any) -> list[Kind]:
    return [problem.kind for problem in judge(replace(WELL, **facts))]


def log(lag: int, age: float, group: str = "bank") -> dict[TP, PartitionSurvey]:
    return {ORDERS: PartitionSurvey(lag, {group: GroupProgress(1, lag, 0, age)})}


def test_nothing_is_wrong_where_everything_is_as_it_should_be() -> None:
    assert judge(WELL) == ()


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"group": Group()}, Kind.NO_WORKER),
        ({"group": Group(workers=(WORKER,), lost={"w-2": LONG_AGO})}, Kind.WORKER_LOST),
        ({"group": Group(workers=(WORKER,), unowned={1: LONG_AGO})}, Kind.PARTITIONS_UNOWNED),
        ({"troubles": [ServerTrouble(Trouble.EVICTS, "it evicts")]}, Kind.BROKER_EVICTS),
        ({"anomalies": [("redfaust:topics", "abc")]}, Kind.ANOMALY),
        ({"schemas": (Schema("redfaust", 13, 14),)}, Kind.SCHEMA_OLD),
        ({"schemas": (Schema("redfaust", 15, 14),)}, Kind.SCHEMA_NEW),
        ({"outbox": Outbox(3, 60.0, 0, 0.0)}, Kind.OUTBOX_OVERDUE),
        ({"locks": (LockWait(7, "redfaust", 9.0, [8], "psql"),)}, Kind.LOCKED),
        ({"unreadable_rows": ["order_states o-1"]}, Kind.ROW_UNREADABLE),
        ({"locks": Unknown(Cause.FORBIDDEN, "permission denied")}, Kind.RIGHTS_MISSING),
        ({"locks": Unknown(Cause.FAILED, "odd")}, Kind.UNASKED),
        ({"locks": SILENT}, Kind.UNASKED),
    ],
)
def test_each_fact_is_its_own_problem(facts: dict[str, Any], kind: Kind) -> None:
    assert kinds(**facts) == [kind]


def test_a_server_that_is_away_is_one_problem_whatever_could_not_be_asked() -> None:
    names = ("server", "identity", "schemas", "outbox", "retrying", "letters", "progress", "locks")
    assert kinds(**dict.fromkeys(names, AWAY)) == [Kind.DATABASE_DOWN]
    of_broker = ("group", "relays", "logs", "held", "troubles")
    assert kinds(**dict.fromkeys(of_broker, SILENT)) == [Kind.BROKER_DOWN]


def test_a_partition_that_has_just_become_free_is_on_its_way() -> None:
    moments_ago = NOW - timedelta(seconds=1)
    assert kinds(group=Group(workers=(WORKER,), unowned={1: moments_ago})) == []


def test_events_wait_for_agents_that_finish_others_or_for_nothing() -> None:
    old = STALLED_AFTER + 1
    assert kinds(logs=log(5, old)) == [Kind.STALLED]
    finished = Progress({ORDERS: NOW}, {})
    assert kinds(logs=log(5, old), progress=finished) == []
    assert kinds(logs=log(5, 600.0), progress=finished) == [Kind.LATE]
    assert kinds(logs=log(5, 0.5)) == []
    assert kinds(logs=log(5, old, "another")) == []


def test_what_a_shared_agent_tries_again_is_not_stuck() -> None:
    retrying = Retrying("mail", "orders", 5, LONG_AGO, NOW, 3, "OSError", "no answer")
    logs = log(5, 600.0, "bank/mail")
    assert kinds(logs=logs, retrying=(retrying,)) == [Kind.RETRYING]
    assert Kind.STALLED in kinds(logs=log(6, 600.0, "bank/mail"), retrying=(retrying,))


def test_a_relay_is_missed_only_where_something_waits() -> None:
    elsewhere = Relays((replace(RELAY, database="other"),))
    assert kinds(relays=elsewhere) == []
    assert kinds(relays=elsewhere, outbox=Outbox(0, 0.0, 1, 0.0)) == [Kind.NO_RELAY]


def test_old_dead_letters_are_known_and_new_ones_are_wrong() -> None:
    for newest, severity in ((NOW, Severity.WRONG), (LONG_AGO, Severity.NOTICE)):
        [problem] = judge(replace(WELL, letters=Letters(2, LONG_AGO, newest, "OSError in mail")))
        assert (problem.kind, problem.severity) == (Kind.DEAD_LETTERS, severity)
        assert problem.since == LONG_AGO


def test_the_worst_comes_first() -> None:
    found = judge(replace(WELL, group=Group(lost={"w-1": LONG_AGO})))
    assert [problem.kind for problem in found] == [Kind.NO_WORKER, Kind.WORKER_LOST]
    assert found[0].since == LONG_AGO
