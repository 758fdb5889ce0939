"""Carries committed rows of the outbox onto their topics, each once.

A row is claimed, appended and swept. Claiming gives it a number in the relay's lane, which makes
appending it again harmless; so whoever finds claimed rows appends them, and only then claims more.
The states of a row are drawn in this folder's README.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, Protocol, TypeAlias

import asyncpg
from faust.types import TP

from connectors import crash
from connectors.outbox.headers import unpack
from connectors.postgres.database import Database
from connectors.postgres.queries import load
from connectors.transports.broker import Numbered, Outgoing

CHANNEL = "redfaust_outbox"
"""What an insert into the outbox notifies."""
LOCK = 0x7265_6466_0002
"""Key of the session's advisory lock that makes one relay the active one."""
SPARE_POLL = 1.0
"""Seconds between a spare's attempts to become the active relay."""
LEFT_OUT = 1 << 20
"""Numbers that a relay leaves out when it begins, more than a batch has. What a relay before it may
still append, claimed in a database that has forgotten it since, lies below its own then."""

_Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_Rows: TypeAlias = Sequence[asyncpg.Record]


class Logs(Protocol):
    """What a relay needs of a :class:`~connectors.transports.broker.Broker`."""

    async def append_once(self, lane: str, entries: Sequence[Numbered]) -> None:
        """Append what the lane has not put there yet."""

    async def marks(self, lane: str) -> Mapping[TP, int]:
        """The last numbers that the lane has put there."""


class Lane(NamedTuple):
    """The relay's lane, with nothing claimed on it."""

    name: str
    last_number: int
    """The last number given. Whoever finds another one is not alone."""


class Relay:
    """Publishes due rows, at most ``batch`` at a time, and looks for them every ``poll`` seconds
    even if no notification came.

    Rows without ``available_at`` go in the order of their ids, scheduled ones in the order in
    which they come due. The lock belongs to the connection, so a dead relay is succeeded within
    ``SPARE_POLL`` seconds of Postgres noticing. It saves work: what is published stays right
    without it.
    """

    def __init__(
        self, database: Database, logs: Logs, *, batch: int = 500, poll: float = 1.0
    ) -> None:
        self._database = database
        self._logs = logs
        self._batch = batch
        self._poll = poll
        self._wake = asyncio.Event()
        self.active = False
        """Whether this relay publishes, or waits as a spare."""
        self.published = 0
        """Rows published since the start."""
        self.batches = 0
        """Batches published since the start."""

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until ``stop``; a batch that has begun is finished.

        Raises :class:`~connectors.errors.DatabaseUnavailable` when its connection is lost, and
        whatever the broker raises; then nothing is lost, and run may be called again.
        """
        watcher = asyncio.create_task(self._wake_at(stop))
        try:
            async with self._database.dedicated() as session:
                session.add_termination_listener(lambda _: self._wake.set())
                await session.add_listener(CHANNEL, lambda *_: self._wake.set())
                if await self._lead(session, stop):
                    self.active = True
                    leave_out = LEFT_OUT
                    while not stop.is_set():
                        await self._relay(session, await self._take_over(session, leave_out), stop)
                        leave_out = 0
        finally:
            self.active = False
            watcher.cancel()

    async def _lead(self, session: _Session, stop: asyncio.Event) -> bool:
        while not stop.is_set():
            self._wake.clear()
            if await session.fetchval(_query("try_lock"), LOCK):
                return True
            await self._rest(SPARE_POLL)
        return False

    async def _take_over(self, session: _Session, leave_out: int) -> Lane:
        """Publish what is claimed, and return the lane with its last number."""
        name = await session.fetchval(_query("open_lane"))
        # A database that was set back, by a restore or a replica that lagged, has forgotten
        # numbers that streams have seen, and would see as repeats.
        highest = max((await self._logs.marks(name)).values(), default=0)
        # Before looking for what is claimed: a claim in between then changes this number.
        last_number = await session.fetchval(_query("raise_lane"), name, highest, leave_out)
        crash.point("relay.leading")
        while rows := await session.fetch(_query("select_claimed"), self._batch):
            await self._publish(session, rows)
        return Lane(name, last_number or 0)

    async def _relay(self, session: _Session, lane: Lane, stop: asyncio.Event) -> None:
        """Publish until ``stop``, or until somebody else has claimed rows."""
        while not stop.is_set():
            self._wake.clear()
            rows = await session.fetch(_query("claim_due"), *lane, self._batch)
            if rows:
                crash.point("relay.claimed")
                await self._publish(session, rows)
                lane = lane._replace(last_number=rows[-1]["number"])
                continue
            pause = await session.fetchrow(_query("select_pause"), lane.name)
            assert pause is not None
            if pause["last_number"] != lane.last_number:
                return
            await self._rest(self._seconds_until(pause["seconds_until_due"]))

    async def _publish(self, session: _Session, rows: _Rows) -> None:
        for lane, of_one in groupby(rows, key=itemgetter("lane")):
            await self._logs.append_once(lane, [_numbered(row) for row in of_one])
        self.batches += 1
        self.published += len(rows)
        crash.point("relay.appended")
        await session.execute(_query("delete_published"), [row["id"] for row in rows])
        crash.point("relay.deleted")

    def _seconds_until(self, seconds: float | None) -> float:
        return self._poll if seconds is None else min(max(seconds, 0.0), self._poll)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()


def _numbered(row: asyncpg.Record) -> Numbered:
    entry = Outgoing(row["topic"], row["value"], row["key"], unpack(row["headers"]))
    return Numbered(row["number"], entry)


def _query(name: str) -> str:
    return load("connectors.outbox", name)
