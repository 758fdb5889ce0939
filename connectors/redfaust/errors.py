"""The errors of this library.

::

    RedfaustError
    ├── BrokerError
    │   ├── BrokerUnavailable      cannot be reached now; repeating may help
    │   │   └── TopicClosed        takes nothing while it gets more partitions
    │   ├── BrokerUnsupported      lacks a command that is needed; repeating will not help
    │   ├── GroupGone              a share group has lost its place in a partition
    │   └── PartlyRefused, LogTruncated, EntriesRefused, LogsBlocked
    │                              what became of entries: see brokers/broker.py
    ├── DatabaseError
    │   ├── DatabaseUnavailable    cannot be reached now; repeating may help
    │   │   └── DatabaseBusy       has ended one transaction: a lock, a timeout, a deadlock
    │   ├── RightsMissing          the role may not do what is needed; an owner has to grant it
    │   ├── SchemaTooNew           migrated by a newer release than this one
    │   └── MigrationChanged       an applied migration was edited or removed
    ├── DeadLetterError
    │   ├── DeadLetterUnknown      there is none of that number
    │   └── DeadLetterResolved     it was replayed or discarded before
    ├── ProducerFenced             another process sends as this producer
    ├── Fenced                     another worker owns a partition by now
    ├── DatabaseRewound            the database lacks what this worker has committed
    ├── AwaitedCancelled           what an agent awaited was cancelled, and the agent was not
    ├── ContentRefused             an event that failed cannot be stored as it is
    ├── MaxDeliveriesExceeded      an event was delivered too often without an answer
    ├── AlterationRefused          topics cannot get more partitions as things are
    ├── ResetRefused               tables cannot be emptied as things are
    ├── WorkerUnknown              no worker has that name
    ├── PartitionsDiffer           a worker knows fewer partitions than there are
    ├── WrongPartition             a table was written with a key of another partition
    ├── Postponed                  an event waits for something, and no attempt is used up
    │   ├── RowUnreadable          a row in Postgres is not of its table's types
    │   └── PartitionMoves         a row's partition is moving to another worker
    ├── TableNotShared             a table was used by an agent that owns none of its partitions
    ├── CachedTableError
    │   ├── RowNotLoaded           a row was used that is not in memory; load it first
    │   ├── TableNotWhole          all rows were asked for; SQL knows them
    │   └── CacheFull              rows in use left no room for more
    └── MailError
        ├── MailRejected           the recipient was refused for good
        └── MailUnavailable        the server cannot be reached now; repeating may help

Each message says what to do next. The driver's own error is kept as ``__cause__``.
"""

from __future__ import annotations


class RedfaustError(Exception):
    """Base of all errors of this package."""


class WorkerUnknown(RedfaustError):
    """No worker has that name."""


class BrokerError(RedfaustError):
    """Something about the broker."""


class BrokerUnavailable(BrokerError):
    """The broker cannot be reached now."""


class TopicClosed(BrokerUnavailable):
    """The topic takes nothing now."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"topic {topic} is closed while it gets more partitions: wait, and should nobody be at "
            "it, have it done again"
        )


class BrokerUnsupported(BrokerError):
    """The broker lacks a command that is needed."""


class GroupGone(BrokerError):
    """A share group has no place in a partition any more, or the log is another one. Join again to
    claim what is there now."""


class DatabaseError(RedfaustError):
    """Something about the database."""


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached now."""


class DatabaseBusy(DatabaseUnavailable):
    """The database has ended a transaction for what others do, or for a timeout."""


class RightsMissing(DatabaseError):
    """The role may not do what is needed: repeating will not help before somebody grants it."""


class SchemaTooNew(DatabaseError):
    """The database was migrated by a newer release."""


class MigrationChanged(DatabaseError):
    """An applied migration was edited or removed."""


class DeadLetterError(RedfaustError):
    """Something about a dead letter."""


class DeadLetterUnknown(DeadLetterError):
    """There is no dead letter of that number."""


class DeadLetterResolved(DeadLetterError):
    """The dead letter was replayed or discarded before."""


class ProducerFenced(RedfaustError):
    """A producer has another last number than its owner believes."""


class Fenced(RedfaustError):
    """Another worker owns a partition by now: what this worker did there since its last commit does
    not count."""


class DatabaseRewound(RedfaustError):
    """The database lacks what this worker has committed, as after a restored backup, or a failover
    to a standby that lagged. What is in memory builds on that."""


class AwaitedCancelled(RedfaustError):
    """An agent awaited something that was cancelled, while the agent itself was not."""


class ContentRefused(RedfaustError):
    """An event failed, and its key, value or headers cannot be stored in the dead letter."""


class MaxDeliveriesExceeded(RedfaustError):
    """An event was delivered too often without an answer: its workers died, or hung."""


class AlterationRefused(RedfaustError):
    """Topics cannot get more partitions now. Nothing has changed."""


class ResetRefused(RedfaustError):
    """Tables cannot be emptied and computed anew now. Nothing has changed."""


class PartitionsDiffer(RedfaustError):
    """The database knows more partitions of a topic than a worker has heard of."""


class WrongPartition(RedfaustError):
    """A table was written with a key that belongs to another partition."""


class TableNotShared(RedfaustError):
    """A table was used by an agent with shared delivery."""


class Postponed(RedfaustError):
    """An event cannot be processed now. It is parked and tried again until it can be."""

    pause = 0.5
    """Seconds until the next attempt."""


class RowUnreadable(Postponed):
    """A row in Postgres is not of its table's types, until somebody corrects it."""

    longest_pause = 60.0
    """Seconds to which the pause between two attempts grows."""

    def __init__(self, reason: str, partition: int, pause: float = Postponed.pause) -> None:
        super().__init__(reason)
        self.partition = partition
        self.pause = pause

    def longer_pause(self) -> float:
        """Seconds until the attempt after the next, if the row has not been corrected by then."""
        return min(2 * self.pause, self.longest_pause)

    def again(self) -> RowUnreadable:
        """The same, to be raised: a traceback grows with each time."""
        return RowUnreadable(str(self), self.partition, self.pause)


class PartitionMoves(Postponed):
    """The partition of a row is moving to another worker."""


class CachedTableError(RedfaustError):
    """Something about a table that is larger than memory."""


class RowNotLoaded(CachedTableError):
    """A row was read or written that is not in memory."""


class TableNotWhole(CachedTableError):
    """All rows were asked for, and only some are in memory."""


class CacheFull(CachedTableError):
    """All rows in memory stayed in use for too long to load another one."""


class MailError(RedfaustError):
    """Something about mail."""


class MailRejected(MailError):
    """The recipient was refused for good."""


class MailUnavailable(MailError):
    """The mail server cannot be reached now."""
