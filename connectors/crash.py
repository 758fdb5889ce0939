"""Named points at which a test may kill the process.

``FAUST_CRASH_AT=outbox.appended`` kills it with SIGKILL where it passes the point of that name,
``FAUST_CRASH_AT=outbox.appended:3`` where it does so for the third time. Otherwise a point does
nothing. A point's name is ``<room>.<what has just happened>``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

VARIABLE = "FAUST_CRASH_AT"


def armed(environ: Mapping[str, str]) -> Callable[[str], None]:
    """What :func:`point` is in such an environment.

    Raises :class:`ValueError` if what stands behind the colon is no number from 1.
    """
    name, _, count = environ.get(VARIABLE, "").partition(":")
    left = int(count or 1)
    if left < 1:
        raise ValueError(f"{VARIABLE}={environ[VARIABLE]}: counting begins at 1")
    if not name:
        return _nothing

    def kill(passed: str) -> None:
        nonlocal left
        if passed == name:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    return kill


def _nothing(_: str) -> None:
    pass


point = armed(os.environ)
"""Call it with the point's name."""
