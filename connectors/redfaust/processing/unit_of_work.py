"""What finished events have done since the last commit, waiting for the next one.

Tables keep their changed rows themselves; everything else is collected here. A unit of work lives
from one assignment of partitions to the next: what is not committed when they move belongs to
events that are delivered again, and goes with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

from faust.types import TP

from redfaust.brokers.broker import Advance, Outgoing
from redfaust.outbox.outbox import Scheduled
from redfaust.postgres.database import Connection
from redfaust.processing.changes import Causes, Changes, Row
from redfaust.processing.dead_letters import NewDeadLetter
from redfaust.processing.parking import Changes as ParkedChanges
from redfaust.processing.parking import Parking


class Rows(Protocol):
    """A table whose changed rows are committed."""

    @property
    def label(self) -> str:
        """The table, for people."""

    def take_changes(self) -> Changes:
        """The changes since the last call; their rows go into :meth:`write`, or all goes back if
        that fails."""

    def restore(self, changes: Changes) -> None:
        """Changes that could not be written. Newer ones of the same keys stay."""

    def committed(self, changes: Changes) -> None:
        """Changes that are in the database for good."""

    async def write(self, connection: Connection, rows: Mapping[Any, Row]) -> None:
        """Write rows within a transaction."""


@dataclass
class Batch:
    """What goes into one commit beside the progress."""

    number: UUID = field(default_factory=uuid4)
    """Drawn for this batch, so that one whose commit was not answered can be recognised."""
    rows: Sequence[tuple[Rows, Changes]] = ()
    letters: list[NewDeadLetter] = field(default_factory=list)
    sent: dict[TP, list[tuple[Outgoing, Causes]]] = field(default_factory=lambda: defaultdict(list))
    """By the partition whose events sent it, in order, with these events."""
    scheduled: list[tuple[Scheduled, Causes]] = field(default_factory=list)
    parked: ParkedChanges = field(default_factory=ParkedChanges)
    strays: set[TP] = field(default_factory=set)
    """Partitions of which rows were written for events of others."""


class UnitOfWork:
    """Collects for the next commit."""

    def __init__(self, tables: Callable[[], Iterable[Rows]]) -> None:
        self._tables = tables
        self._batch = Batch()
        self.parking = Parking()
        self.behind: dict[TP, Advance] = {}
        """What is committed, and the broker's group has not followed yet."""

    @property
    def touched(self) -> set[TP]:
        """Partitions of which something is to be committed beside their progress."""
        batch = self._batch
        return self.parking.touched | batch.sent.keys() | self.behind.keys() | batch.strays

    def add_dead_letter(self, letter: NewDeadLetter) -> None:
        """Keep a failed event."""
        self._batch.letters.append(letter)

    def send(self, source: TP, entry: Outgoing, causes: Causes) -> None:
        """Send an entry, on behalf of events, in the order of those of this partition."""
        self._batch.sent[source].append((entry, causes))

    def stray(self, tp: TP) -> None:
        """Have the commit fence a partition whose row was written for an event of another."""
        self._batch.strays.add(tp)

    def schedule(self, entry: Outgoing, at: datetime, causes: Causes) -> None:
        """Send an entry when its time has come, on behalf of events."""
        self._batch.scheduled.append((Scheduled(entry, at), causes))

    def let_go(self, tps: Collection[TP]) -> None:
        """Forget what is known of partitions of which nothing is left to be committed."""
        self.parking.let_go(tps)
        for tp in tps:
            self.behind.pop(tp, None)

    def take(self) -> Batch:
        """All of it, to be committed together with the progress of this moment."""
        batch, self._batch = self._batch, Batch()
        batch.parked = self.parking.take_changes()
        changes = [(table, table.take_changes()) for table in self._tables()]
        batch.rows = [(table, changed) for table, changed in changes if changed.rows]
        return batch

    def committed(self, batch: Batch) -> None:
        """A batch that was committed."""
        for table, changed in batch.rows:
            table.committed(changed)
        self.parking.committed(batch.parked)

    def advanced(self, advances: Mapping[TP, Advance]) -> None:
        """Positions that were committed."""
        for tp, (position, finished) in advances.items():
            before = self.behind.get(tp)
            since = finished if before is None else finished + before.finished
            self.behind[tp] = Advance(position, since)

    def restore(self, batch: Batch) -> None:
        """A batch that was not committed goes before what has come since."""
        since, self._batch = self._batch, batch
        for table, changed in batch.rows:
            table.restore(changed)
        batch.rows = ()
        self.parking.restore(batch.parked)
        batch.letters += since.letters
        batch.scheduled += since.scheduled
        batch.strays |= since.strays
        for source, entries in since.sent.items():
            batch.sent[source] += entries
