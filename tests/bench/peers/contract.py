"""What the benchmark and the process of a peer say to each other.

    python -m tests.bench.peers.NAME.HOW ROW URL EVENTS

The process finds an empty broker at URL and puts EVENTS events there, in the form of its own. Then
it does the work of ROW with them; the last line that it prints is JSON, a :class:`Result`. It is
measured from the first read until the last effect is there: an event is acknowledged, what was sent
is on its stream.

Nothing is imported but Python: it runs in the environment of any peer.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from importlib import metadata
from typing import Any, TypedDict

ROWS = ("consume", "count", "transform", "produce")
"""To look at each event; to count per key in a table; to send an event for each; to send events."""

LOOK_EVERY = 0.002
"""Seconds between two looks whether all effects are there."""


class Result(TypedDict):
    """What a peer prints."""

    row: str
    events: int
    events_per_second: float
    cpu: float
    """Microseconds of its process for an event."""
    versions: dict[str, str]
    """Of what it is made of, by the name of the package."""


class Task:
    """The work on so many events, and the time that it takes."""

    def __init__(self, url: str, events: int) -> None:
        self.url, self.events = url, events
        self.done = asyncio.Event()
        """All events are looked at."""
        self._left = events
        self._began: tuple[float, float] | None = None
        self._took: tuple[float, float] | None = None

    def begin(self) -> None:
        """Something is read now; what was there before the first read does not count."""
        if self._began is None:
            gc.collect()
            self._began = time.perf_counter(), time.process_time()

    def tick(self, value: Mapping[str, Any]) -> None:
        """Look at an event."""
        assert value["note"]
        self._left -= 1
        if not self._left:
            self.done.set()

    def end(self) -> None:
        """All effects are there."""
        assert self._began is not None
        wall, cpu = self._began
        self._took = time.perf_counter() - wall, time.process_time() - cpu

    async def end_when(self, all_there: Callable[[], Awaitable[bool]]) -> None:
        """Wait for all events, and then until all effects are there."""
        await self.done.wait()
        while not await all_there():  # noqa: ASYNC110 - somebody else's server is looked at
            await asyncio.sleep(LOOK_EVERY)
        self.end()

    def result(self, row: str, packages: Iterable[str]) -> Result:
        """After the end."""
        assert self._took is not None
        wall, cpu = self._took
        return Result(
            row=row,
            events=self.events,
            events_per_second=self.events / wall,
            cpu=cpu / self.events * 1e6,
            versions={name: metadata.version(name) for name in packages},
        )


Work = Callable[[Task], Awaitable[None]]


def serve(
    packages: Iterable[str],
    works: Mapping[str, Work],
    *,
    run: Callable[[Coroutine[Any, Any, None]], object] = asyncio.run,
) -> None:
    """Be a peer that can do these rows, in the event loop that it is used with."""
    _, row, url, events = sys.argv
    task = Task(url, int(events))

    async def work() -> None:
        await works[row](task)

    run(work())
    print(json.dumps(task.result(row, packages)), flush=True)  # noqa: T201
