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
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
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
        self._pins: defaultdict[Hashable, dict[Any, int]] = defaultdict(dict)
        """By holder: how often it has pinned a key."""
        self._holders: dict[Any, int] = {}
        """By key: how many have pinned it."""
        self._idle: OrderedDict[Any, None] = OrderedDict()
        """Keys that may go, the least recently used first. Some are in use again."""

    def __len__(self) -> int:
        return len(self._states)

    def state(self, key: Any) -> State | None:
        """What is known of a key; ``None`` if it has no place."""
        return self._states.get(key)

    def loaded(self) -> list[Any]:
        """Keys of which it is known whether they have a row."""
        return [key for key, state in self._states.items() if state is not State.RESERVED]

    def pinned_by(self, holder: Hashable) -> int:
        """How many keys a holder has pinned."""
        return len(self._pins[holder])

    def pin(self, key: Any, holder: Hashable, at_most: int) -> bool:
        """Keep a key until :meth:`unpin`, which is needed once for each time.

        False, and nothing done, if all other places are in use, or the holder has pinned
        ``at_most`` keys.
        """
        pins = self._pins[holder]
        if key in pins:
            pins[key] += 1
            return True
        if len(pins) >= at_most:
            return False
        if key not in self._states:
            if not self._make_room():
                return False
            self._states[key] = State.RESERVED
        pins[key] = 1
        self._holders[key] = self._holders.get(key, 0) + 1
        return True

    def unpin(self, key: Any, holder: Hashable) -> None:
        """Let go of a key that this holder has pinned."""
        pins = self._pins[holder]
        pins[key] -= 1
        if pins[key]:
            return
        del pins[key]
        self._holders[key] -= 1
        if not self._holders[key]:
            del self._holders[key]
            self.release(key)

    def note(self, key: Any, *, present: bool) -> None:
        """Note whether a key that has a place has a row."""
        self._states[key] = State.PRESENT if present else State.ABSENT

    def release(self, key: Any) -> None:
        """Note that somebody has used a key until now. It may go if nobody else uses it."""
        if key in self._states:
            self._idle[key] = None
            self._idle.move_to_end(key)

    def drop(self, which: Callable[[Any], bool]) -> None:
        """Forget keys that nobody has pinned, and that have no changes to be committed."""
        for key in list(self._states):
            if key not in self._holders and which(key) and not self._unsaved(key):
                del self._states[key]
                self._idle.pop(key, None)
                self._forget(key)

    def _make_room(self) -> bool:
        while len(self._states) >= self.size:
            if not self._idle:
                return False
            key, _ = self._idle.popitem(last=False)
            # A key in use comes back when it is released.
            if key not in self._holders and not self._unsaved(key):
                del self._states[key]
                self._forget(key)
        return True
