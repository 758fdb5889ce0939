"""Faults of Postgres."""

from __future__ import annotations

import asyncio
import signal
from random import Random

from redfaust.postgres.database import Database
from tests.torture.faults import Fault
from tests.torture.servers import Servers
from tests.torture.strikes import Impossible, Strikes

FULL_FOR = (1.0, 4.0)
"""Seconds for which there is no space left."""
UNANSWERED_FOR = (0.2, 1.5)
"""Seconds for which no COMMIT is answered."""


class OnPostgres:
    """Hits the server, and the way that workers and relays have to it."""

    def __init__(self, seed: int, servers: Servers) -> None:
        self._choose = Random(f"on Postgres {seed}")
        self._servers = servers

    @property
    def strikes(self) -> Strikes:
        return {
            Fault.POSTGRES_KILLED: self._kill,
            Fault.POSTGRES_SHUT_DOWN: self._shut_down,
            Fault.POSTGRES_FULL: self._leave_no_space,
            Fault.SESSIONS_ENDED: self._end_sessions,
            Fault.COMMITS_UNANSWERED: self._lose_answers,
        }

    async def _kill(self) -> None:
        await self._servers.end_postgres(signal.SIGKILL)

    async def _shut_down(self) -> None:
        await self._servers.end_postgres(signal.SIGQUIT)

    async def _leave_no_space(self) -> None:
        disk = self._servers.disk
        if disk is None:
            raise Impossible("a disk of its own for Postgres cannot be mounted")
        disk.fill()
        try:
            await asyncio.sleep(self._choose.uniform(*FULL_FOR))
        finally:
            disk.free()
            await self._servers.revive_postgres()

    async def _end_sessions(self) -> None:
        administrator = await Database.connect(self._servers.postgres.url, max_size=1)
        try:
            async with administrator.transaction() as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        finally:
            await administrator.close()

    async def _lose_answers(self) -> None:
        self._servers.way.lose_answers_to(b"COMMIT;")
        try:
            await asyncio.sleep(self._choose.uniform(*UNANSWERED_FOR))
        finally:
            self._servers.way.lose_answers_to(None)
