"""What one agent does with one event, apart from everything else until the event is finished.

::

            ┌── the agent finishes the event ──▶ JOINED   its writes are the tables' state, what it
    OPEN ───┤                                             sent will be sent: by the next commit
            └── it raises ──▶ DROPPED                     as if it had never begun, in memory too

While it is open the agent reads its own writes, and nobody else does. A batch (``stream.take``)
has one scope for all its events.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from faust.types import TP, EventT

Row: TypeAlias = tuple[int, Any, Any]
"""As an event wants it: its partition, its value, and this as it goes into the database; ``None``
where the row is to go. A plain tuple, since there is one for each time a row is written."""


Cause: TypeAlias = tuple[str, TP, int]
"""An agent by name and the place of an event. Not the event itself, which would stay in memory
until the commit, with all its content."""


class Change:
    """A row as it is to be, after one event or many."""

    __slots__ = ("causes", "encoded", "partition")

    def __init__(self, partition: int, encoded: Any) -> None:
        self.partition = partition
        self.encoded = encoded
        """``None`` where the row is to go."""
        self.causes: list[Cause] = []
        """What made it so since the last commit, in order."""


Changes: TypeAlias = dict[Any, Change]
"""By key."""


class Table(Protocol):
    """What a scope needs of a table's store."""

    def apply(self, rows: Mapping[Any, Row], causes: Iterable[Cause]) -> None:
        """Make rows part of the table's state."""


class State(enum.Enum):
    """Where a scope is in its life."""

    OPEN = "open"
    JOINED = "joined"
    DROPPED = "dropped"


_OPEN, _JOINED = State.OPEN, State.JOINED
"""Before Python 3.12, asking an enum for a member calls a function."""


class Scope:
    """What one agent writes and sends for one event, or for those of one batch."""

    __slots__ = ("_deferred", "_sources", "events", "reader", "state", "writes")

    def __init__(self, events: Sequence[EventT[Any]] = (), reader: str = "") -> None:
        self.state = _OPEN
        self.events = events
        """What is being processed, in order."""
        self.reader = reader
        """The agent, by name; empty where it is none."""
        # Made when something is written: most events write little, and many nothing.
        self.writes: dict[Table, dict[Any, Row]] | None = None
        """Rows so far, by table and key."""
        self._deferred: list[Callable[[], None]] | None = None
        self._sources: dict[bytes | None, TP] | None = None

    def source_of(self, key: bytes | None) -> TP:
        """On behalf of which partition something is sent under a key: each has its own order.

        In a batch it is that of the event of the same key, so that what is sent under the keys of
        events stays in order from batch to batch; under any other key, that of the first event.
        """
        first = self.events[0].message.tp
        if len(self.events) == 1:
            return first
        if self._sources is None:
            self._sources = {event.message.key: event.message.tp for event in self.events}
        return self._sources.get(key, first)

    def defer(self, effect: Callable[[], None]) -> None:
        """Do something when the event is finished, in order, and never if it fails."""
        if self._deferred is None:
            self._deferred = []
        self._deferred.append(effect)

    def join(self) -> None:
        """The event is finished: what it did counts. Nothing happens if the scope is not open."""
        if self.state is not _OPEN:
            return
        self.state = _JOINED
        if self.writes is not None:
            reader, events = self.reader, self.events
            causes = [(reader, event.message.tp, event.message.offset) for event in events]
            for table, rows in self.writes.items():
                table.apply(rows, causes)
            self.writes = None
        if self._deferred is not None:
            for effect in self._deferred:
                effect()
            self._deferred = None

    def drop(self) -> None:
        """The event failed: nothing of it ever happened. Nothing happens if it is not open."""
        if self.state is _OPEN:
            self.state = State.DROPPED
            self.writes = self._deferred = None


_current: ContextVar[Scope | None] = ContextVar("redfaust_scope", default=None)


def open_scope(events: Sequence[EventT[Any]] = (), reader: str = "") -> Scope:
    """Begin the scope of what this task works on from now on."""
    scope = Scope(events, reader)
    _current.set(scope)
    return scope


def current_scope() -> Scope | None:
    """The open scope of this task, or of the task that started it."""
    scope = _current.get()
    return scope if scope is not None and scope.state is _OPEN else None
