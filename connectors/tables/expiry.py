"""When the windows of a table expire: one note for each window, however many events it has had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any


class Expiry:
    """The windows of one table that are in memory, by their ends."""

    def __init__(self) -> None:
        self._keys: dict[float, set[Any]] = {}
        """By the end of a window, in seconds since the epoch, its rows' keys."""
        self._ends: list[float] = []
        """A heap."""

    def add(self, key: Any) -> None:
        """Note a row, by its key ``(key, (start, end))``. Harmless if repeated."""
        end = key[1][1]
        keys = self._keys.get(end)
        if keys is None:
            self._keys[end] = {key}
            heappush(self._ends, end)
        else:
            keys.add(key)

    def discard(self, key: Any) -> None:
        """Forget a row that is deleted."""
        if (keys := self._keys.get(key[1][1])) is not None:
            keys.discard(key)

    def clear(self) -> None:
        """Forget all."""
        self._keys.clear()
        self._ends.clear()

    def due(self, is_over: Callable[[float], bool]) -> Iterator[Any]:
        """The keys of windows whose end is over, the oldest first. Each is forgotten as it is
        given: one that cannot be closed yet is to be added again."""
        found = []
        while self._ends and is_over(self._ends[0]):
            found += sorted(self._keys.pop(heappop(self._ends)), key=repr)
        return iter(found)
