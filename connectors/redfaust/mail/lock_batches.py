"""Keys that are locked while their mails are on their way, many by one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from redfaust.batch_loader import BatchLoader
from redfaust.errors import MailUnavailable
from redfaust.mail.mailer import SEND_TIMEOUT
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.queries import load

ROUNDS = 4
"""That are open at a time. Each has a connection of the database meanwhile."""
LOCK_TIMEOUT = SEND_TIMEOUT + 5.0
"""Seconds to wait for somebody else who is sending the same mail."""

_Lock: TypeAlias = Callable[[Connection, Sequence[str]], Awaitable[Sequence[str]]]


class Round:
    """Some mails, whose keys are locked until the last of them is on its way no more."""

    def __init__(self, keys: Collection[str], sent: Collection[str]) -> None:
        self.keys = keys
        self.sent = sent
        """The keys that are on record."""
        self._on_their_way = len(keys)
        self._over = asyncio.Event()
        if not keys:
            self._over.set()

    def leave(self) -> None:
        """A mail of it is on its way no more."""
        self._on_their_way -= 1
        if not self._on_their_way:
            self._over.set()

    async def wait(self) -> None:
        """Return when it is over."""
        await self._over.wait()


class Rounds:
    """Begins them. Where the connection of one is lost, its locks are, which nobody hears of: its
    mails are put on record by another."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._room = asyncio.Semaphore(ROUNDS)
        self._beginning = BatchLoader(self._begin)
        self._open: set[asyncio.Task[None]] = set()

    async def begin(self, key: str) -> Round:
        """A round that the key is of, with those that begin at the same time. Leave it.

        Waits while another session holds the key. Raises
        :class:`~redfaust.errors.MailUnavailable` after ``LOCK_TIMEOUT``, and
        :class:`~redfaust.errors.DatabaseUnavailable`.
        """
        return await self._beginning.ask(key) or await self._open_round([key], _wait_for)

    async def close(self) -> None:
        """End all, whatever is on its way."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _begin(self, keys: Sequence[str]) -> Mapping[str, Round]:
        begun = await self._open_round(keys, _lock_free)
        return dict.fromkeys(begun.keys, begun)

    async def _open_round(self, keys: Sequence[str], lock: _Lock) -> Round:
        begun: asyncio.Future[Round] = asyncio.get_running_loop().create_future()
        holding = asyncio.create_task(self._hold(keys, lock, begun))
        self._open.add(holding)
        holding.add_done_callback(self._open.discard)
        return await begun

    async def _hold(self, keys: Sequence[str], lock: _Lock, begun: asyncio.Future[Round]) -> None:
        try:
            async with self._room, self._database.transaction() as connection:
                locked = await lock(connection, keys)
                # Not by the same statement, which would not see what was committed meanwhile.
                sent = await connection.fetch(_query("select_sent"), locked)
                begun.set_result(Round(locked, {row["idempotency_key"] for row in sent}))
                await begun.result().wait()
        except BaseException as error:
            if not begun.done():
                begun.set_exception(error)
            if not isinstance(error, Exception):
                raise


async def _lock_free(connection: Connection, keys: Sequence[str]) -> Sequence[str]:
    return [row["key"] for row in await connection.fetch(_query("lock_keys"), keys)]


async def _wait_for(connection: Connection, keys: Sequence[str]) -> Sequence[str]:
    [key] = keys
    try:
        await connection.execute(_query("lock_key"), key, timeout=LOCK_TIMEOUT)
    except TimeoutError as error:
        raise MailUnavailable(
            f"somebody else has been sending this mail for {LOCK_TIMEOUT:.0f} seconds: "
            "try again to learn whether it was sent"
        ) from error
    return keys


def _query(name: str) -> str:
    return load("redfaust.mail", name)
