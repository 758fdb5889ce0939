"""What events have written to a table since the last commit, and which of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from faust.types import TP

Row: TypeAlias = tuple[int, Any, Any]
"""Its partition, its value, and this as it goes into the database: ``None`` where the row is to go,
``LATER`` where it is not encoded yet. A plain tuple, since there is one for each time a row is
written."""

LATER = object()
"""For numbers, which cannot change, and which Postgres takes for sure. Where a row is written often
between two commits, all but the last need not be encoded."""

Cause: TypeAlias = tuple[str, TP, int]
"""An agent by name and the place of an event. Not the event itself, which would stay in memory
until the commit, with all its content."""

Causes: TypeAlias = Cause | list[Cause]
"""An event, or those of a batch."""


class Changes:
    """Rows of one table as they are to be."""

    __slots__ = ("rows", "writes")

    def __init__(self) -> None:
        self.rows: dict[Any, Row] = {}
        """By key."""
        # Who wrote a row is asked only if Postgres refuses it, so nothing is looked up before.
        self.writes: list[tuple[Any, Causes | None]] = []
        """A key for each time that its row was written, in order, and who did it; ``None`` if it
        was no event."""

    def before(self, later: Changes) -> Changes:
        """These, and then others."""
        both = Changes()
        both.rows = {**self.rows, **later.rows}
        both.writes = self.writes + later.writes
        return both

    def causes_of(self, keys: Iterable[Any]) -> Mapping[Any, list[Cause]]:
        """What made rows as they are to be, in order."""
        found: dict[Any, list[Cause]] = {key: [] for key in keys}
        for key, causes in self.writes:
            if causes is not None and key in found:
                found[key] += causes if isinstance(causes, list) else [causes]
        return found
