"""What is: the facts that problems are judged by, as they were asked at one time.

What could not be asked is :class:`Unknown`, in the place of the facts.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias, TypeVar

from faust.types import TP

from app.status.models import Worker
from redfaust.brokers.broker import PartitionSurvey, ServerTrouble

T = TypeVar("T")


class Cause(enum.Enum):
    """Why something could not be asked."""

    AWAY = "away"
    """The server cannot be reached."""
    SILENT = "silent"
    """It has not answered in time."""
    FORBIDDEN = "forbidden"
    """The role has no right to ask."""
    MISSING = "missing"
    """There is no such table or column."""
    FAILED = "failed"
    """Anything else."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """In the place of facts that could not be asked."""

    cause: Cause
    why: str


Known: TypeAlias = "T | Unknown"


@dataclass(frozen=True, slots=True)
class Group:
    """The members of the application's group."""

    workers: Sequence[Worker] = ()
    """Those that are heard."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Members that are heard and announce themselves in another form, and what is wrong with it."""
    silent: Mapping[str, datetime | None] = field(default_factory=dict)
    """Names of members that should be there, and when each was heard last."""
    lost: Mapping[str, datetime] = field(default_factory=dict)
    """Names of members that others have struck out, and when."""
    drained: frozenset[str] = frozenset()
    unowned: Mapping[int, datetime | None] = field(default_factory=dict)
    """Numbers of partitions without an owner that is heard, and since when."""


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay that is heard."""

    name: str
    role: str
    app: str
    database: str
    host: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Relays:
    """The relays of all databases."""

    relays: Sequence[Relay] = ()
    silent: Mapping[str, datetime | None] = field(default_factory=dict)
    lost: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeldTopic:
    """A topic that keeps more than its retention allows."""

    text: str
    groups: Mapping[int, frozenset[str]]
    """By partition, those for which it does."""


@dataclass(frozen=True, slots=True)
class Server:
    """The database's server, and this process's role there."""

    role: str
    is_read_only: bool
    is_standby: bool
    may_publish: bool


@dataclass(frozen=True, slots=True)
class Schema:
    """Of one namespace of migrations, the newest that is applied and that this release has."""

    namespace: str
    applied: int
    known: int


@dataclass(frozen=True, slots=True)
class Outbox:
    """What waits to be published. Counts end at a bound."""

    depth: int
    oldest_age: float
    """Seconds for which the oldest of it has been due."""
    scheduled: int
    """Rows that are not due yet."""
    late: float
    """Seconds for which the oldest scheduled row has been due; 0: none is."""


@dataclass(frozen=True, slots=True)
class Retrying:
    """Events of one agent and topic that wait for another attempt, or behind one that does."""

    agent: str
    topic: str
    events: int
    since: datetime
    next_attempt: datetime | None
    attempts: int
    """Of the event that has failed most often."""
    error_type: str
    error: str
    """What the one that has failed most often raised last."""


@dataclass(frozen=True, slots=True)
class Letters:
    """Dead letters that wait for a decision."""

    waiting: int
    oldest: datetime | None
    newest: datetime | None
    newest_error: str
    """The class of its error, and the agent."""


@dataclass(frozen=True, slots=True)
class Progress:
    """When something was finished last."""

    partitions: Mapping[TP, datetime]
    """By the ordered agents."""
    agents: Mapping[str, datetime]
    """By agents with shared delivery."""


@dataclass(frozen=True, slots=True)
class LockWait:
    """A session that waits for a lock."""

    pid: int
    application: str
    seconds: float
    blocked_by: Sequence[int]
    blocker: str
    """What the first of those is, as far as this role may know."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All facts."""

    app: str
    at: datetime
    group: Known[Group]
    relays: Known[Relays]
    logs: Known[Mapping[TP, PartitionSurvey]]
    """The partitions of the application's topics."""
    held: Known[Mapping[str, HeldTopic]]
    troubles: Known[Sequence[ServerTrouble]]
    anomalies: Known[Sequence[tuple[str, str]]]
    """What lies at the broker's own keys and is not redfaust's: where, and what."""
    server: Known[Server]
    identity: Known[str]
    """Of the database, as its relays name it."""
    schemas: Known[Sequence[Schema]]
    outbox: Known[Outbox]
    retrying: Known[Sequence[Retrying]]
    letters: Known[Letters]
    progress: Known[Progress]
    locks: Known[Sequence[LockWait]]
    shown: Mapping[str, Known[object]] = field(default_factory=dict)
    """What is shown and not judged, by its name: it may not have been answered either."""
    unreadable_rows: Sequence[str] = ()
    """Rows of tables that are not what their tables say, as far as they were looked at."""
