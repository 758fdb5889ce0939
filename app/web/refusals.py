"""Refused logins in the log: enough to see that somebody tries, and no more than a few a minute."""

from __future__ import annotations

import logging
import time
from typing import Final

from starlette.types import Scope

LINES: Final = 10
"""Lines that are logged in one :data:`PERIOD`; the others are counted."""
PERIOD: Final = 60.0
"""Seconds."""

logger = logging.getLogger(__name__)


class RefusedLogins:
    """Those of one server."""

    def __init__(self) -> None:
        self._began = float("-inf")
        self._count = 0

    def note(self, scope: Scope) -> None:
        """Log the address of a client whose token was wrong; never what it has sent."""
        now = time.monotonic()
        if now - self._began >= PERIOD:
            if self._count > LINES:
                logger.warning("%d more logins were refused", self._count - LINES)
            self._began, self._count = now, 0
        self._count += 1
        if self._count <= LINES:
            host, _ = scope.get("client") or ("an unknown address", 0)
            more = "; further ones are counted" if self._count == LINES else ""
            logger.warning("a login from %s was refused: its token is wrong%s", host, more)
