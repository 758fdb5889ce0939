"""The clock of a process, which can be moved while it runs. Monotonic time goes on as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CACHED_FOR = 1
"""Whole seconds for which a process does not look at its clock's file."""
NOTICED_WITHIN = CACHED_FOR + 1.0
"""Seconds until it has noticed that its clock was moved."""
ONE_HOUR = 3600


def _library() -> Path | None:
    found = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]
    return found[0] if found else None


LIBRARY = _library()
"""Debian's libfaketime; without it all clocks are right."""


class Clock:
    """Of the processes that are started in its environment."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.move(0)

    @property
    def environ(self) -> Mapping[str, str]:
        """What a process needs to go by it."""
        if LIBRARY is None:
            return {}
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(CACHED_FOR),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def move(self, seconds: int) -> None:
        """Let it be ahead of the right time by so much."""
        partial = self._file.with_suffix(".partial")
        partial.write_text(f"{seconds:+d}\n", encoding="utf-8")
        partial.replace(self._file)


def forget(pid: int) -> None:
    """Remove what a process that was killed has left of the library's."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        Path("/dev/shm", name).unlink(missing_ok=True)
