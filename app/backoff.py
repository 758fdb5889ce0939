"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST = 0.5
LONGEST = 15.0
HEALTHY_AFTER = 30.0
"""Seconds after which what has run so long counts as healthy, and the delay begins anew."""


class Backoff:
    """Delays in seconds that double from :data:`FIRST` to :data:`LONGEST`."""

    def __init__(self) -> None:
        self._next = FIRST

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Run an attempt in the block."""
        started = time.monotonic()
        try:
            yield
        finally:
            if time.monotonic() - started >= HEALTHY_AFTER:
                self._next = FIRST

    def delay(self) -> float:
        """How long to wait now."""
        delay = self._next
        self._next = min(delay * 2, LONGEST)
        return delay
