"""A server that outlived its parent.

When a parent is killed, its servers shut down on their own, which takes a moment. Two servers on
the same files would ruin them, so the next start waits for the last one to be gone. A server is
known by the directory that it works in: unlike a number in a file, that cannot go stale.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from app.errors import ServerFailed

PATIENCE = 10.0
"""Seconds that an orphan is given to end by itself, before it is killed."""
KILLED_PATIENCE = 5.0
"""Seconds until a killed orphan has to be gone."""
POLL_INTERVAL = 0.05


async def until_gone(directory: Path, program: str) -> None:
    """Return when no process of this program works in the directory any more.

    Raises :class:`~app.errors.ServerFailed` if one cannot even be killed.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            await _none_working_in(directory, program)
    except TimeoutError:
        for pid in _working_in(directory, program):
            _kill(pid)
    else:
        return
    try:
        async with asyncio.timeout(KILLED_PATIENCE):
            await _none_working_in(directory, program)
    except TimeoutError:
        raise ServerFailed(
            f"a {program} of an earlier run still works in {directory} and cannot be ended: "
            f"end the processes {_working_in(directory, program)}"
        ) from None


async def _none_working_in(directory: Path, program: str) -> None:
    # Only a parent is told of an end, and these have lost theirs.
    while _working_in(directory, program):  # noqa: ASYNC110
        await asyncio.sleep(POLL_INTERVAL)


def _working_in(directory: Path, program: str) -> list[int]:
    here = str(directory.resolve())
    return [
        int(entry.name)
        for entry in Path("/proc").glob("[0-9]*")
        if _link(entry / "cwd") == here and Path(_link(entry / "exe")).name == program
    ]


def _link(path: Path) -> str:
    """Where a link of /proc leads; nowhere if the process is gone or another user's."""
    try:
        return str(path.readlink()).removesuffix(" (deleted)")
    except OSError:
        return ""


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
