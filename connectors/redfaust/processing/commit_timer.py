"""When to commit.

A commit costs a transaction, however little is in it. Where agents keep up with what comes, that is
paid from time that nobody needs: one commit follows the other, and what is finished while one is on
its way shares the next. Where events wait for agents, these would wait longer for it. There a pause
lets more events share a commit, and grows with what the last one took: committing takes a tenth of
the time. More it takes only where the database is so slow that events would grow older than they
may. Nothing is committed while there is nothing to commit.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

SHORTEST = 0.005
"""Seconds of the shortest pause."""

SHARE = 9
"""How much longer than the commit before it a pause is."""

MAX_EVENTS = 20_000
"""Events delivered since the last commit. With more the next one does not wait, nor with more
bytes: what is not committed is in memory, and all of it goes into one transaction."""

MAX_BYTES = 32 << 20


class CommitTimer:
    """Tells when it is time for a commit."""

    def __init__(self, interval: float, events: int = MAX_EVENTS) -> None:
        """``interval``: seconds from the beginning of one commit to that of the next, at most,
        unless a commit takes longer. ``events``: how many may be delivered without one, at most
        :data:`MAX_EVENTS`."""
        self._interval = interval
        self._most = min(events, MAX_EVENTS)
        self._pause = SHORTEST
        self._wanted = asyncio.Event()
        self._at_once = asyncio.Event()
        self._events = 0
        self._bytes = 0

    def want(self, *, at_once: bool = False) -> None:
        """There is something to commit; ``at_once`` unless events wait for agents."""
        self._wanted.set()
        if at_once:
            self._at_once.set()

    def delivered(self, events: int, size: int) -> None:
        """So many events of so many bytes are on their way to be committed."""
        self._events += events
        self._bytes += size
        if self._events > self._most or self._bytes > MAX_BYTES:
            self._at_once.set()

    async def due(self) -> None:
        """Wait until a commit is to be made."""
        await self._wanted.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause):
                await self._at_once.wait()
        self._wanted.clear()
        self._at_once.clear()
        self._events = self._bytes = 0

    def took(self, seconds: float) -> None:
        """A commit is done, or has failed, after so many seconds."""
        self._pause = max(SHORTEST, min(SHARE * seconds, self._interval - seconds))
