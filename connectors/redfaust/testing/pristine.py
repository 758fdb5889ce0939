"""An application as it was defined, before and after each test.

A Faust application is made to be started once in its process: starting it leaves its traces in
services, events, channels and caches. They all hang on the application object, so what hangs there
is noted before it is started, and put back when it has been stopped: the objects stay the same, of
which modules and tests hold names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakSet

from faust.types import AppT

_OURS = frozenset({"faust", "mode", "redfaust"})
"""Packages whose objects, and objects derived from theirs, are noted."""


class Pristine:
    """What an application consists of, at one moment."""

    def __init__(self, app: AppT) -> None:
        self._put_back: list[Callable[[], None]] = []
        self._seen: dict[int, Any] = {}
        """By identity. The objects are held, since an identity may be used again."""
        waiting: list[Any] = [app]
        while waiting:
            found = waiting.pop()
            if id(found) not in self._seen:
                self._seen[id(found)] = found
                waiting += self._note(found)

    def restore(self) -> None:
        """Make it what it was."""
        for put_back in self._put_back:
            put_back()

    def _note(self, found: Any) -> Iterable[Any]:
        """Note one thing; returns those that hang on it."""
        match found:
            case dict():
                self._keep(found.clear, found.update, dict(found))
                return [*found.values()]
            case list() | deque():
                self._keep(found.clear, found.extend, list(found))
                return list(found)
            case set() | WeakSet():
                self._keep(found.clear, found.update, list(found))
                return list(found)
            case tuple():
                return found
            case _ if _is_ours(found):
                attributes = vars(found)
                self._keep(attributes.clear, attributes.update, dict(attributes))
                return [*attributes.values()]
            case _:
                return ()

    def _keep(self, clear: Callable[[], None], fill: Callable[[Any], Any], content: Any) -> None:
        def put_back() -> None:
            clear()
            fill(content)

        self._put_back.append(put_back)


def _is_ours(found: Any) -> bool:
    if isinstance(found, type) or not hasattr(found, "__dict__"):
        return False
    return any(of.__module__.partition(".")[0] in _OURS for of in type(found).__mro__)
