"""What one agent does with one event, apart from everything else until the event is finished.

::

            ┌── the agent finishes the event ──▶ JOINED   its writes are the tables' state, and
    OPEN ───┤                                             go into the next commit
            └── it raises ──▶ DROPPED                     as if it had never begun, in memory too

While it is open the agent reads its own writes, and nobody else does.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from faust.types import Message


class Change(NamedTuple):
    """A row as it is to be."""

    partition: int
    row: Any
    encoded: Any
    """As it goes into the database; ``None`` where the row is to go."""
    causes: list[Message]
    """The events that made it so since the last commit, in their order."""


class Table(Protocol):
    """What a scope needs of a table's store."""

    def apply(self, changes: Mapping[Any, Change]) -> None:
        """Make changes part of the table's state."""


class State(enum.Enum):
    """Where a scope is in its life."""

    OPEN = "open"
    JOINED = "joined"
    DROPPED = "dropped"


class Scope:
    """The writes of one agent for one event, by table and key."""

    __slots__ = ("_writes", "state")

    def __init__(self) -> None:
        self.state = State.OPEN
        self._writes: dict[Table, dict[Any, Change]] = {}

    def writes_to(self, table: Table) -> dict[Any, Change]:
        """The changes of a table so far; add to them to write."""
        return self._writes.setdefault(table, {})

    def join(self) -> None:
        """The event is finished: its writes count. Nothing happens if the scope is not open."""
        if self.state is not State.OPEN:
            return
        self.state = State.JOINED
        for table, changes in self._writes.items():
            table.apply(changes)

    def drop(self) -> None:
        """The event failed: its writes never happened. Nothing happens if it is not open."""
        if self.state is State.OPEN:
            self.state = State.DROPPED


_current: ContextVar[Scope | None] = ContextVar("redfaust_scope", default=None)


def open_scope() -> Scope:
    """Begin the scope of the event that this task works on from now on."""
    scope = Scope()
    _current.set(scope)
    return scope


def current_scope() -> Scope | None:
    """The open scope of this task, or of the task that started it."""
    scope = _current.get()
    return scope if scope is not None and scope.state is State.OPEN else None
