"""What may be wrong, by kinds that alerts can name."""

from __future__ import annotations

import enum

from pydantic import AwareDatetime, BaseModel, ConfigDict


class Severity(enum.Enum):
    """How bad a problem is."""

    STOPPED = "stopped"
    """Events are not processed, or commands have no effect: the application is not ready."""
    WRONG = "wrong"
    """Somebody has to look at it."""
    NOTICE = "notice"
    """Worth knowing. The command line's exit code takes no notice of it."""


class Kind(enum.Enum):
    """The kinds of problems: a name for metrics, and a sentence that reveals nothing else."""

    reason: str

    def __new__(cls, value: str, reason: str) -> Kind:
        kind = object.__new__(cls)
        kind._value_ = value
        kind.reason = reason
        return kind

    BROKER_DOWN = "broker_down", "the broker cannot be reached"
    BROKER_FULL = "broker_full", "the broker has no memory left"
    BROKER_READ_ONLY = "broker_read_only", "the broker refuses changes"
    BROKER_EVICTS = "broker_evicts", "the broker may remove events"
    DATABASE_DOWN = "database_down", "the database cannot be reached"
    DATABASE_READ_ONLY = "database_read_only", "the database refuses changes"
    SCHEMA_OLD = "schema_old", "the database's schema is older than this release"
    SCHEMA_NEW = "schema_new", "the database's schema is newer than this release"
    RIGHTS_MISSING = "rights_missing", "a right is missing"
    MAY_NOT_PUBLISH = "may_not_publish", "this process may not publish events"
    NO_WORKER = "no_worker", "no worker is running"
    WORKER_LOST = "worker_lost", "a worker was lost"
    WORKER_UNREADABLE = "worker_unreadable", "a worker announces itself in another form"
    ALL_DRAINED = "all_drained", "all workers are drained"
    PARTITIONS_UNOWNED = "partitions_unowned", "partitions have no owner"
    NO_RELAY = "no_relay", "no relay is running"
    RELAY_LOST = "relay_lost", "a relay was lost"
    OUTBOX_OVERDUE = "outbox_overdue", "events are not published"
    SCHEDULED_OVERDUE = "scheduled_overdue", "scheduled events are not published"
    LOG_BLOCKED = "log_blocked", "a partition is blocked"
    STALLED = "stalled", "events wait, and none is finished"
    LATE = "late", "events are processed late"
    LOCKED = "locked", "a lock in the database is waited for"
    RETRYING = "retrying", "events are tried again and again"
    ROW_UNREADABLE = "row_unreadable", "a row cannot be read"
    DEAD_LETTERS = "dead_letters", "events were given up"
    RETENTION_HELD = "retention_held", "a topic keeps more than it should"
    ANOMALY = "anomaly", "the broker holds something that nobody can read"
    UNASKED = "unasked", "something could not be asked"


class Problem(BaseModel):
    """One thing that is wrong."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    severity: Severity
    text: str
    """What is wrong, in one sentence for people."""
    first_step: str
    """What to do, or to look at, first."""
    since: AwareDatetime | None = None
    """``None``: nobody knows."""

    def __str__(self) -> str:
        return f"{self.text}; {self.first_step}"
