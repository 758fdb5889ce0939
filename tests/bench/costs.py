"""What processes cost."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from app.embedded.process import StopPlan

STOP: StopPlan = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))
OURSELVES = "bench"
_TICK = os.sysconf("SC_CLK_TCK")


class _Process(NamedTuple):
    parent: int
    name: str
    seconds: float
    """That it has worked, and those of its children that have ended."""


def cpu_seconds(shop: int) -> Mapping[str, float]:
    """How long each kind of process below ``redfaust up`` has worked, and this one itself."""
    processes = dict(_processes())
    seconds: defaultdict[str, float] = defaultdict(float, {OURSELVES: sum(os.times()[:2])})

    def kind(pid: int) -> str | None:
        """``worker``, ``postgres`` and the like, whose children are of the same kind."""
        process = processes.get(pid)
        if process is None or pid == shop:
            return "up" if process else None
        above = kind(process.parent)
        return process.name if above == "up" else above

    for pid, process in processes.items():
        if (name := kind(pid)) is not None:
            seconds[name] += process.seconds
    return seconds


def _processes() -> Iterator[tuple[int, _Process]]:
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            stat = (directory / "stat").read_text(encoding="utf-8")
            arguments = (directory / "cmdline").read_text(encoding="utf-8").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        command, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        name = arguments[arguments.index("app") + 1] if "app" in arguments else command
        ticks = sum(map(int, fields[11:15]))
        yield int(directory.name), _Process(int(fields[1]), name, ticks / _TICK)
