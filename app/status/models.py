"""The shapes of the status, as JSON and on the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydantic import AwareDatetime, BaseModel, ConfigDict

from app.mailbox import MailHeading
from app.status.problems import Problem, Severity
from redfaust.processing import dead_letters
from redfaust.processing.redaction import masked_text


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class WorkerAgent(_Part):
    """An agent as one worker has seen it since the worker started."""

    name: str
    topics: tuple[str, ...] = ()
    shared: bool = False
    """Whether its events go to whoever is free."""
    processed: int = 0
    """Events that it has finished without an exception."""
    failed: int = 0
    """Events that it has given up."""
    retried: int = 0
    """Attempts that failed and were, or will be, followed by another one."""


class Worker(_Part):
    """A process that runs the agents."""

    name: str
    pid: int
    host: str
    started_at: AwareDatetime
    web: str | None = None
    owns: tuple[tuple[str, int], ...] = ()
    """Topic and partition."""
    agents: tuple[WorkerAgent, ...] = ()
    drained: bool = False

    @property
    def role(self) -> str:
        """An active worker owns partitions, a spare one waits for some, a drained one is to have
        none."""
        if self.drained:
            return "drained"
        return "active" if self.owns else "spare"

    @property
    def owned(self) -> Mapping[str, Sequence[int]]:
        """Partitions by topic."""
        grouped: dict[str, list[int]] = defaultdict(list)
        for topic, partition in sorted(self.owns):
            grouped[topic].append(partition)
        return grouped


class Agent(_Part):
    """An agent over all live workers, since each of them started."""

    name: str
    topics: tuple[str, ...]
    workers: int
    processed: int
    failed: int
    retried: int
    waiting: int | None = None
    """Events that it has not finished, where delivery is shared; for ordered delivery the lag of
    its topics says so."""


class Partition(_Part):
    """One partition as the shop's consumer group sees it."""

    partition: int
    length: int
    lag: int
    """Entries that a group of the application has not finished, of the one furthest behind. What
    nobody has joined has no lag."""
    oldest_age_seconds: float | None = None
    """Since the oldest of them was appended, as far as the broker knows."""
    pending: int
    """Entries that agents with shared delivery have in hand; ordered delivery has none."""
    position: str | None
    """Text, since it is larger than JavaScript's numbers."""
    owner: str | None
    held_by: tuple[str, ...] = ()
    """Groups for which it keeps more than its topic's retention allows."""


class Topic(_Part):
    """A topic with its partitions in order."""

    name: str
    partitions: tuple[Partition, ...]


class OutboxPart(_Part):
    """Events that wait to be published."""

    depth: int
    oldest_age_seconds: float
    scheduled: int


class DeadLetterHeading(_Part):
    """A dead letter; what looks secret in it is masked, and what is long is shortened."""

    id: int
    topic: str
    partition: int
    agent: str | None
    state: str
    error_type: str
    error: str
    preview: str
    correlation_id: str | None
    created_at: AwareDatetime

    @classmethod
    def of(cls, letter: dead_letters.DeadLetterHeading) -> DeadLetterHeading:
        """What may be shown of a dead letter."""
        return cls(
            id=letter.id,
            topic=letter.topic,
            partition=letter.partition,
            agent=letter.agent,
            state=letter.state.value,
            error_type=letter.error_type,
            error=masked_text(letter.error),
            preview=letter.preview,
            correlation_id=letter.correlation_id,
            created_at=letter.created_at,
        )


class DeadLettersPart(_Part):
    """Events that could not be processed."""

    waiting: int
    latest: tuple[DeadLetterHeading, ...]


class ParkedPart(_Part):
    """Events that wait for another attempt, or behind one of their key that does."""

    waiting: int
    topics: Mapping[str, int]
    """By the name of the topic; only those with any."""


class RetryingPart(_Part):
    """Events of one agent and topic that wait for another attempt."""

    agent: str
    topic: str
    events: int
    attempts: int
    """Of the event that has failed most often."""
    since: AwareDatetime
    next_attempt: AwareDatetime | None
    error_type: str
    error: str


class RelayPart(_Part):
    """A relay that is there, as far as it publishes for this database."""

    name: str
    role: str
    """``active`` or ``spare``."""
    app: str
    host: str
    pid: int


class RecentOrder(_Part):
    """An order that was placed through the web API."""

    order_id: str
    user_id: str
    currency: str
    total: int
    status: str
    """``unreadable`` where the agents' row is none."""
    placed_at: AwareDatetime


class Status(_Part):
    """All of it. What could not be asked is ``null``, and ``problems`` says why; the parts of the
    shop are ``null`` in another application, too."""

    app: str
    at: AwareDatetime
    problems: tuple[Problem, ...] = ()
    workers: tuple[Worker, ...] | None = None
    relays: tuple[RelayPart, ...] | None = None
    agents: tuple[Agent, ...] | None = None
    topics: tuple[Topic, ...] | None = None
    outbox: OutboxPart | None = None
    parked: ParkedPart | None = None
    retrying: tuple[RetryingPart, ...] | None = None
    dead_letters: DeadLettersPart | None = None
    mails: tuple[MailHeading, ...] | None = None
    orders: tuple[RecentOrder, ...] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the application can work."""
        return all(problem.severity is not Severity.STOPPED for problem in self.problems)

    @property
    def is_well(self) -> bool:
        """Whether nobody has to look at anything."""
        return all(problem.severity is Severity.NOTICE for problem in self.problems)
