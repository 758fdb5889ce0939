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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from typing import Any, Protocol

from faust import streams
from faust.types import TP, EventT, Message

from redfaust.brokers.broker import Outgoing
from redfaust.processing.changes import Causes, Row


class Table(Protocol):
    """What a scope needs of a table's store."""

    def apply(self, key: Any, row: Row, causes: Causes | None) -> None:
        """Make a row part of the table's state."""


class Outlet(Protocol):
    """Where that goes which an event sends, once it is finished."""

    def send(self, source: TP, entry: Outgoing, causes: Causes) -> None:
        """Send an entry, on behalf of events, in the order of those of this partition."""

    def schedule(self, entry: Outgoing, at: datetime, causes: Causes) -> None:
        """Send an entry when its time has come, on behalf of events."""


class Finisher(Protocol):
    """What a scope knows of the stream whose events it is for."""

    def finish(self, message: Message) -> bool:
        """Finish an event of this stream; whether all who got it have. Harmless if repeated."""


class State(enum.Enum):
    """Where a scope is in its life."""

    OPEN = "open"
    JOINED = "joined"
    DROPPED = "dropped"


_OPEN, _JOINED = State.OPEN, State.JOINED
"""Before Python 3.12, asking an enum for a member calls a function."""


_NOTHING: Mapping[Any, Row] = {}
_NO_STRAYS: frozenset[TP] = frozenset()


class _Further:
    """What few scopes have."""

    __slots__ = ("by_key", "deferred", "sources", "strays", "writes")

    def __init__(self) -> None:
        self.sources: dict[bytes | None, TP] = {}
        self.by_key: tuple[int, dict[Any, Message]] = 0, {}
        """How many events were looked at, and the first message of each key."""
        self.strays = _NO_STRAYS
        self.forget()

    def forget(self) -> None:
        """Let go of what is done, or never will be."""
        self.writes: dict[Table, dict[Any, Row]] = {}
        """All rows, where there are several."""
        self.deferred: list[Callable[[], None]] = []


class Scope:
    """What one agent writes and sends for one event, or for those of one batch."""

    # There is one for each event, most of which write one row, or none: what else there may be is
    # kept by those that have it.
    __slots__ = (
        "_further",
        "_key",
        "_row",
        "events",
        "outlet",
        "reader",
        "state",
        "stream",
        "table",
    )

    _key: Any
    _row: Row

    def __init__(
        self,
        events: Sequence[EventT[Any]] = (),
        reader: str = "",
        outlet: Outlet | None = None,
        stream: Finisher | None = None,
    ) -> None:
        """``events`` are what is being processed, in order, by the agent ``reader``; empty where it
        is none. ``outlet`` is that of an event which was delivered to one of many, whoever owns its
        partition; without one, what is sent goes with the commit of this worker's partitions.
        """
        self.state = _OPEN
        self.events = events
        self.reader = reader
        self.outlet = outlet
        self.stream = stream
        self.table: Table | None = None
        """The first that was written."""
        self._further: _Further | None = None

    def __call__(self) -> EventT[Any] | None:
        """The current event; see :data:`_current`."""
        return self.events[-1] if self.events else None

    @property
    def strays(self) -> frozenset[TP]:
        """Other partitions than those of the events, of which rows were written."""
        return _NO_STRAYS if self._further is None else self._further.strays

    @property
    def has_effects(self) -> bool:
        """Whether anything waits for the event to be finished."""
        return self.table is not None or self._further is not None

    def stray(self, tp: TP) -> None:
        """Note that a row of another partition is written."""
        self._more().strays |= {tp}

    def write(self, table: Table, key: Any, row: Row) -> None:
        """Note a row as it is to be."""
        if self.table is None or (
            self.table is table and self._key == key and not self._has_several()
        ):
            self.table, self._key, self._row = table, key, row
            return
        writes = self._more().writes
        if not writes:
            writes[self.table] = {self._key: self._row}
        writes.setdefault(table, {})[key] = row

    def row(self, table: Table, key: Any) -> Row | None:
        """A row as it was written; ``None`` if it was not."""
        if self._has_several():
            return self.rows(table).get(key)
        return self._row if self.table is table and self._key == key else None

    def rows(self, table: Table) -> Mapping[Any, Row]:
        """All rows of a table that were written, by key."""
        if self._further is not None and self._further.writes:
            return self._further.writes.get(table, _NOTHING)
        return {self._key: self._row} if self.table is table else _NOTHING

    def source_of(self, key: bytes | None) -> TP:
        """On behalf of which partition something is sent under a key: each has its own order.

        In a batch it is that of the event of the same key, so that what is sent under the keys of
        events stays in order from batch to batch; under any other key, that of the first event.
        """
        first = self.events[0].message.tp
        if len(self.events) == 1:
            return first
        sources = self._more().sources
        if not sources:
            sources.update((event.message.key, event.message.tp) for event in self.events)
        return sources.get(key, first)

    @property
    def causes(self) -> Causes:
        """The events, as those that cause what is done for them."""
        if len(self.events) == 1:
            message = self.events[0].message
            return self.reader, message.tp, message.offset
        return [(self.reader, event.message.tp, event.message.offset) for event in self.events]

    def message_of(self, key: Any) -> Message | None:
        """The message of the first event that has this key; ``None`` if none has it."""
        if len(self.events) == 1:
            event = self.events[0]
            return event.message if event.key == key else None
        further = self._more()
        seen, messages = further.by_key
        if seen < len(self.events):  # a batch grows while its processors run
            for event in self.events[seen:]:
                with suppress(TypeError):  # what cannot be hashed is no key of a table
                    messages.setdefault(event.key, event.message)
            further.by_key = len(self.events), messages
        return messages.get(key)

    def defer(self, effect: Callable[[], None]) -> None:
        """Do something when the event is finished, in order, and never if it fails."""
        self._more().deferred.append(effect)

    def join(self) -> None:
        """The event is finished: what it did counts. Nothing happens if the scope is not open."""
        if self.state is not _OPEN:
            return
        self.state = _JOINED
        if (table := self.table) is not None:
            if self._further is None and len(self.events) == 1:
                message = self.events[0].message
                table.apply(self._key, self._row, (self.reader, message.tp, message.offset))
            else:
                self._apply_all(table)
            self.table = None
        if (further := self._further) is not None:
            effects = further.deferred
            further.forget()
            for effect in effects:
                effect()

    def drop(self) -> None:
        """The event failed: nothing of it ever happened. Nothing happens if it is not open."""
        if self.state is _OPEN:
            self.state = State.DROPPED
            self.table = None
            if self._further is not None:
                self._further.forget()

    def _has_several(self) -> bool:
        return self._further is not None and bool(self._further.writes)

    def _more(self) -> _Further:
        if self._further is None:
            self._further = _Further()
        return self._further

    def _apply_all(self, first: Table) -> None:
        causes = self.causes
        tables = (first,) if self._further is None else (self._further.writes or (first,))
        for table in tables:
            for key, row in self.rows(table).items():
                table.apply(key, row, causes)


# Faust keeps a weak reference to the current event there, and calls it. A scope stands in for that:
# a second variable would cost each event more than its scope does.
_current: ContextVar[Any] = streams._current_event
scope_of_task = _current.get
"""What stands there, which may be Faust's, and a scope that is over: :func:`current_scope` tells
for one call more."""
set_current = _current.set
"""Makes a scope that of this task."""


def open_scope(
    events: Sequence[EventT[Any]] = (),
    reader: str = "",
    outlet: Outlet | None = None,
    stream: Finisher | None = None,
) -> Scope:
    """Begin the scope of what this task works on from now on; its last event is the current one."""
    scope = Scope(events, reader, outlet, stream)
    set_current(scope)
    return scope


@contextmanager
def outside_of_events() -> Iterator[None]:
    """Within, this task does nothing on behalf of an event: what it sends leaves at once."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def acknowledging() -> Finisher | None:
    """Whose events this task acknowledges, also when their scope is closed."""
    scope = _current.get(None)
    return scope.stream if type(scope) is Scope else None


def current_scope() -> Scope | None:
    """The open scope of this task, or of the task that started it."""
    scope = _current.get(None)
    return scope if type(scope) is Scope and scope.state is _OPEN else None
