"""Connections to a mail server, kept for the mails that follow at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import aiosmtplib

GOODBYE_TIMEOUT = 2.0
"""Seconds to wait for the answer to the last word."""
KEPT_FOR = 1.0
"""Seconds after which one that rests is given up, twice as many at most: before the server does."""
MAILS_A_CONNECTION = 100
"""Mails after which one is given up, as many servers do."""


class Connection(aiosmtplib.SMTP):
    """One of them."""

    mails = 0
    """That it has carried."""
    rests_since = 0.0


class Connections:
    """To one server, as many as are in use at a time."""

    def __init__(self, new: Callable[[], Connection]) -> None:
        self._new = new
        self._resting: list[Connection] = []
        self._look: asyncio.TimerHandle | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def take(self) -> Connection:
        """One that is connected. Raises what aiosmtplib raises."""
        while self._resting:
            connection = self._resting.pop()
            if connection.is_connected:
                return connection
        connection = self._new()
        await connection.connect()
        return connection

    def keep(self, connection: Connection) -> None:
        """One that has carried a mail."""
        connection.mails += 1
        if connection.mails == MAILS_A_CONNECTION:
            self.leave(connection)
            return
        connection.rests_since = asyncio.get_running_loop().time()
        self._resting.append(connection)
        if self._look is None:
            self._look_later()

    def leave(self, connection: Connection) -> None:
        """One that is of no more use. Goodbye is said meanwhile."""
        leaving = asyncio.create_task(_say_goodbye(connection))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Leave all that rest."""
        self._leave_since(float("inf"))
        await asyncio.gather(*self._leaving)

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(KEPT_FOR, lambda: self._leave_since(loop.time() - KEPT_FOR))

    def _leave_since(self, time: float) -> None:
        resting, self._resting = self._resting, []
        for connection in resting:
            if connection.rests_since <= time:
                self.leave(connection)
            else:
                self._resting.append(connection)
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if self._resting:
            self._look_later()


async def _say_goodbye(connection: Connection) -> None:
    """Whatever comes of it, the mails are where they are."""
    try:
        with suppress(aiosmtplib.SMTPException, OSError):
            await connection.quit(timeout=GOODBYE_TIMEOUT)
    finally:
        connection.close()
