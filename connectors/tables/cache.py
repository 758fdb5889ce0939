"""Which keys of a table are in memory, where not all of them fit.

Of a key that has a place it is known whether it has a row; of the others nothing is known::

                pin              note              another key needs the place
    (unknown) ──────▶ RESERVED ──┬───▶ PRESENT ──┬───▶ (unknown)
                                 └───▶ ABSENT ───┘
                                  as rows are written, from one to the other

The least recently used key makes room. A key keeps its place while it is pinned, by an event that
waits or is in progress, and while what was written to it is not committed.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable
from typing import Any


class State(enum.Enum):
    """What is known of a key that has a place."""

    RESERVED = "reserved"
    """Nothing yet: it is about to be loaded."""
    PRESENT = "present"
    ABSENT = "absent"


class Cache:
    """The keys of one table that are known, ``size`` at most."""

    def __init__(
        self, size: int, unsaved: Callable[[Any], bool], forget: Callable[[Any], None]
    ) -> None:
        """``unsaved`` says whether a key has changes that are not committed. ``forget`` is told of
        each key that makes room for another one."""
        self.size = size
        self._unsaved = unsaved
        self._forget = forget
        self._states: dict[Any, State] = {}
        self._pins: dict[Any, int] = {}
        self._idle: OrderedDict[Any, None] = OrderedDict()
        """Keys that may go, the least recently used first. Some are in use again."""

    def __len__(self) -> int:
        return len(self._states)

    def state(self, key: Any) -> State | None:
        """What is known of a key; ``None`` if it has no place."""
        return self._states.get(key)

    def pin(self, key: Any, at_most: int) -> bool:
        """Keep a key until :meth:`unpin`, which is needed once for each time.

        False, and nothing done, if all other places are in use, or if ``at_most`` keys are pinned.
        """
        if key not in self._pins and len(self._pins) >= at_most:
            return False
        if key not in self._states:
            if not self._make_room():
                return False
            self._states[key] = State.RESERVED
        self._pins[key] = self._pins.get(key, 0) + 1
        return True

    def unpin(self, key: Any) -> None:
        """Let go of a key that was pinned."""
        pins = self._pins.pop(key) - 1
        if pins:
            self._pins[key] = pins
        else:
            self.release(key)

    def note(self, key: Any, *, present: bool) -> None:
        """Note whether a key that has a place has a row."""
        self._states[key] = State.PRESENT if present else State.ABSENT

    def release(self, key: Any) -> None:
        """Note that somebody has used a key until now. It may go if nobody else uses it."""
        if key in self._states:
            self._idle[key] = None
            self._idle.move_to_end(key)

    def _make_room(self) -> bool:
        while len(self._states) >= self.size:
            if not self._idle:
                return False
            key, _ = self._idle.popitem(last=False)
            # A key in use comes back when it is released.
            if key not in self._pins and not self._unsaved(key):
                del self._states[key]
                self._forget(key)
        return True
