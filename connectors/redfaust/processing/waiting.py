"""What a worker waits for, said once and kept for those who look at it."""

from __future__ import annotations

import logging
import time

AGAIN_EVERY = 60.0
"""Seconds after which the same reason is logged again."""

logger = logging.getLogger(__name__)


class Waiting:
    """Of one application. Nothing is waited for at its beginning."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """Why the worker does not go on; ``None`` while it does."""
        self.since = 0.0
        """When that began, in seconds since the epoch."""
        self._said = 0.0

    def because(self, what: str, error: Exception) -> None:
        """Note that something waits, and log it unless that was just done."""
        reason, now = f"{what}: {error}", time.time()
        if self.reason is None:
            self.since = now
        if reason != self.reason or now - self._said >= AGAIN_EVERY:
            self._said = now
            logger.warning("%s", reason)
        self.reason = reason

    def over(self) -> None:
        """Note that the worker goes on."""
        if self.reason is not None:
            logger.info("Goes on after %.0f seconds", time.time() - self.since)
            self.reason = None
