"""The data directory: whose it is, and how others find what runs in it.

::

    .redfaust/
      lock            held while an installation runs; its process number is in it
      services.json   where its broker and database are (0600; removed when it stops)
      env             the same for a shell (0600; removed when it stops)
      valkey/         data, password and log of the broker
      postgres/       data, password and log of the database
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from app.embedded.secret import write_private
from app.errors import DirectoryInUse, DirectoryUnusable

LOCK_ATTEMPTS = 10
LOCK_INTERVAL = 0.05
"""Seconds between attempts: who merely looks whether it runs holds the lock for a moment."""
_ANOTHER = "choose another by REDFAUST_DATA_DIR or --data-dir"


@dataclass(frozen=True, slots=True)
class Services:
    """Where the broker and the database of an installation are; passwords are in the URLs."""

    broker: str
    database: str


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """A data directory that is ours while :meth:`lock`'s block runs."""

    path: Path

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Raises :class:`~app.errors.DirectoryInUse` or :class:`~app.errors.DirectoryUnusable`."""
        with self._open() as file:
            await self._acquire(file)
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()}\n")
            file.flush()
            self.retract()  # left behind by one that was killed
            try:
                yield
            finally:
                self.retract()

    @property
    def valkey(self) -> Path:
        """Where Valkey keeps its data."""
        return self.path / "valkey"

    @property
    def postgres(self) -> Path:
        """Where Postgres keeps its data."""
        return self.path / "postgres"

    @property
    def shell_environment(self) -> Path:
        """A file to source in a shell, there once :meth:`publish` was called."""
        return self.path / "env"

    def publish(self, services: Services) -> None:
        """Tell other processes of this user where the servers are."""
        write_private(self._services, json.dumps(asdict(services)))
        write_private(
            self.shell_environment,
            f"export REDFAUST_BROKER={shlex.quote(services.broker)}\n"
            f"export REDFAUST_DATABASE={shlex.quote(services.database)}\n",
        )

    def retract(self) -> None:
        """Take back what :meth:`publish` told."""
        self._services.unlink(missing_ok=True)
        self.shell_environment.unlink(missing_ok=True)

    @property
    def _services(self) -> Path:
        return self.path / "services.json"

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    def _open(self) -> TextIO:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_uid != os.geteuid():
                raise DirectoryUnusable(f"{self.path} belongs to another user: {_ANOTHER}")
            return self._lock.open("a+", encoding="utf-8")
        except OSError as error:
            raise DirectoryUnusable(
                f"{self.path} cannot be used ({error.strerror}): {_ANOTHER}"
            ) from error

    async def _acquire(self, file: TextIO) -> None:
        for _ in range(LOCK_ATTEMPTS):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(LOCK_INTERVAL)
            else:
                return
        file.seek(0)
        raise DirectoryInUse(
            f"{self.path} is in use by process {file.read().strip() or '(starting)'}: "
            f"stop it, or {_ANOTHER}"
        )


def read_services(path: Path) -> Services | None:
    """Where the servers of the installation are that runs in a data directory.

    ``None`` if none runs, even if one was killed and left its files. Raises
    :class:`~app.errors.DirectoryUnusable` if it is another user's.
    """
    try:
        with (path / "lock").open(encoding="utf-8") as file:
            if _is_free(file):
                return None
        return Services(**json.loads((path / "services.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise DirectoryUnusable(
            f"{path} belongs to another user: run as that user, or set REDFAUST_BROKER and "
            "REDFAUST_DATABASE"
        ) from error


def _is_free(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
