"""Time that stands still until a test moves it.

Both clocks are one: the event loop's, by which everything sleeps, and the wall's, which Faust and
the application ask for dates. Whenever nothing can happen but that time passes, and somebody waits
for that, it jumps to the next timer: ``await asyncio.sleep(3600)`` takes no time in a test.
"""

from __future__ import annotations

import asyncio
import time
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, cast

import time_machine
from faust.exceptions import ImproperlyConfigured

A_LITTLE_LATER = 1e-6
"""Seconds by which a jump goes beyond its timer. Rounding could end it before the second at which
a crontab is due, which would then be due again."""

THREADS_EVERY = 0.0005
"""Real seconds between two looks for what threads have done."""

QUIET_ROUNDS = 3
"""Rounds of the event loop without anything to do, after which there is nothing to do."""


class Clock:
    """Of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises ImproperlyConfigured for a loop that is not asyncio's own."""
        if not isinstance(loop, BaseSelectorEventLoop):
            raise ImproperlyConfigured(
                f"time cannot be moved in {type(loop).__name__}: run tests on asyncio's own loop"
            )
        self._loop = cast(Any, loop)
        self._now: float = self._loop.time()
        self._behind = time.time() - self._now
        self._travel: time_machine.Traveller | None = None
        self._in_threads = 0
        self._select: Callable[[float | None], Any] = self._loop._selector.select

    def time(self) -> float:
        """Seconds, as the event loop counts them."""
        return self._now

    @contextmanager
    def installed(self) -> Iterator[Clock]:
        """Have the loop, and all clocks of the wall, go by this one."""
        loop, selector = self._loop, self._loop._selector
        with time_machine.travel(self._now + self._behind, tick=False) as self._travel:
            # Of this loop alone, and not of its class: another test may use real time.
            selector.select, loop.time = self._wait, self.time
            loop.run_in_executor = self._run_in_executor
            try:
                yield self
            finally:
                del selector.select, loop.time, loop.run_in_executor

    def _wait(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return self._select(0)
        if timeout is None or self._in_threads:
            return self._select(timeout)
        happened = self._select(0)
        if not happened:
            self._move_to(self._now + timeout + A_LITTLE_LATER)
        return happened

    def _move_to(self, when: float) -> None:
        self._now = when
        assert self._travel is not None
        self._travel.move_to(when + self._behind, tick=False)

    def _run_in_executor(
        self, executor: Executor | None, function: Callable[..., Any], *arguments: Any
    ) -> asyncio.Future[Any]:
        running: asyncio.Future[Any] = type(self._loop).run_in_executor(
            self._loop, executor, function, *arguments
        )
        self._in_threads += 1
        running.add_done_callback(self._has_run)
        return running

    def _has_run(self, _: asyncio.Future[Any]) -> None:
        self._in_threads -= 1

    async def quiet(self) -> None:
        """Return when nothing more happens unless time passes, or somebody outside does it."""
        rounds = 0
        while rounds < QUIET_ROUNDS:
            await asyncio.sleep(0)
            if self._loop._ready:
                rounds = 0
            elif self._in_threads:
                rounds = 0
                time.sleep(THREADS_EVERY)  # noqa: ASYNC251 - whoever could run waits for a thread
            else:
                rounds += 1
