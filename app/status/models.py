"""The shapes of the status, as JSON and on the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydantic import AwareDatetime, BaseModel, ConfigDict

from app.mailbox import MailHeading
from connectors.processing.dead_letters import DeadLetter
from connectors.processing.preview import masked_text
from models.orders import OrderStatus


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class WorkerAgent(_Part):
    """An agent as one worker has seen it since the worker started."""

    name: str
    topics: tuple[str, ...] = ()
    shared: bool = False
    """Whether its events go to whoever is free."""
    processed: int = 0
    failed: int = 0


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
    waiting: int | None = None
    """Events that it has not finished, where delivery is shared; for ordered delivery the lag of
    its topics says so."""


class Partition(_Part):
    """One partition as the shop's consumer group sees it."""

    partition: int
    length: int
    lag: int
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
    """A dead letter; what looks secret in it is masked."""

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
    def of(cls, letter: DeadLetter) -> DeadLetterHeading:
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


class RecentOrder(_Part):
    """An order that was placed through the web API."""

    order_id: str
    user_id: str
    currency: str
    total: int
    status: OrderStatus | None
    """``None`` where the row of its state cannot be read."""
    placed_at: AwareDatetime


class BrokerPart(_Part):
    """What the broker knows."""

    workers: tuple[Worker, ...] = ()
    agents: tuple[Agent, ...] = ()
    topics: tuple[Topic, ...] = ()


class DatabasePart(_Part):
    """What the database knows."""

    outbox: OutboxPart
    parked: ParkedPart
    dead_letters: DeadLettersPart
    mails: tuple[MailHeading, ...]
    orders: tuple[RecentOrder, ...]


class Status(_Part):
    """All of it. What could not be asked is ``null``, and ``problems`` says why."""

    app: str
    at: AwareDatetime
    problems: tuple[str, ...] = ()
    workers: tuple[Worker, ...] | None = None
    agents: tuple[Agent, ...] | None = None
    topics: tuple[Topic, ...] | None = None
    outbox: OutboxPart | None = None
    parked: ParkedPart | None = None
    dead_letters: DeadLettersPart | None = None
    mails: tuple[MailHeading, ...] | None = None
    orders: tuple[RecentOrder, ...] | None = None
