"""Valkey and Postgres, which are killed while the shop works."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded import Postgres, Valkey, start_postgres, start_valkey
from tests.rights import with_known_password


@dataclass
class Servers:
    """Valkey and Postgres, each on a port that it keeps."""

    directory: Path
    postgres_options: Mapping[str, str]
    valkey: Valkey
    postgres: Postgres

    async def kill_valkey(self) -> None:
        """``kill -9`` and start it again on what it has in its log."""
        await self.without_valkey()
        await self.restart_valkey()

    async def without_valkey(self) -> None:
        """``kill -9``; :meth:`restart_valkey` brings it back."""
        await _end(self.valkey.server.process, signal.SIGKILL)

    async def restart_valkey(self) -> None:
        """Start it again on what it has in its log."""
        self.valkey = await start_valkey(self.directory / "valkey", port=self.valkey.port)

    async def without_postgres(self) -> None:
        """An immediate shutdown; :meth:`restart_postgres` brings it back."""
        await _end(self.postgres.server.process, signal.SIGQUIT)

    async def restart_postgres(self) -> None:
        """Start it again."""
        self.postgres = await start_postgres(
            self.directory / "postgres", port=self.postgres.port, options=self.postgres_options
        )

    async def end_postgres(self, sig: signal.Signals) -> None:
        """End it (SIGKILL: kill; SIGQUIT: immediate shutdown) and start it again."""
        await _end(self.postgres.server.process, sig)
        await self.restart_postgres()


async def _end(process: asyncio.subprocess.Process, sig: signal.Signals) -> None:
    process.send_signal(sig)
    await process.wait()


@asynccontextmanager
async def running_servers(
    directory: Path, postgres_options: Mapping[str, str]
) -> AsyncIterator[Servers]:
    """Both servers during the block."""
    valkey = await start_valkey(with_known_password(directory / "valkey"))
    try:
        postgres = await start_postgres(
            with_known_password(directory / "postgres"), options=postgres_options
        )
        servers = Servers(directory, postgres_options, valkey, postgres)
        try:
            yield servers
        finally:
            await servers.postgres.stop()
            valkey = servers.valkey
    finally:
        await valkey.stop()
