"""Schema changes in named files ``NNNN_name.sql``, each applied once and then never edited."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

import asyncpg

from redfaust.errors import DatabaseBusy, MigrationChanged, RightsMissing, SchemaTooNew
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.queries import load

LOCK = 0x7265_6466_0001
"""Key of the advisory lock that lets one process migrate at a time."""
TIMEOUT = 600.0
"""Seconds that one migration may take, and that a process waits for another's."""

RETRY_EVERY = 0.5
"""Seconds between two attempts while others are in the way."""

logger = logging.getLogger(__name__)

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")


class Migration(NamedTuple):
    """One file."""

    number: int
    name: str
    """The file's name without its ending."""
    sql: str
    checksum: str


async def apply_migrations(
    database: Database, namespace: str, directory: Path | Traversable
) -> list[str]:
    """Apply what is missing, in order of the numbers; return the names applied now.

    Safe when several processes start at once: each migration commits together with the row that
    records it, under one lock.

    What ends a single transaction, a deadlock for instance, is tried again for ``TIMEOUT`` seconds.
    Timeouts that the server has for statements and locks do not count here.

    Raises :class:`~redfaust.errors.SchemaTooNew` if the database has a higher number than the
    directory, :class:`~redfaust.errors.MigrationChanged` if an applied file was edited or
    removed since, and :class:`~redfaust.errors.RightsMissing` if something is missing that this
    role may not apply. Where nothing is missing, a role that may read ``redfaust.migrations`` is
    enough.
    """
    known = _read(directory)
    applied: list[str] = []
    while (name := await _until_it_is_free(database, namespace, known)) is not None:
        applied.append(name)
    return applied


async def migrate(database: Database) -> list[str]:
    """Bring the schema ``redfaust`` up to this release."""
    directory = resources.files("redfaust.postgres").joinpath("migrations")
    return await apply_migrations(database, "redfaust", directory)


async def _until_it_is_free(
    database: Database, namespace: str, known: Mapping[int, Migration]
) -> str | None:
    give_up_at = asyncio.get_running_loop().time() + TIMEOUT
    while True:
        try:
            return await _apply_next(database, namespace, known)
        except DatabaseBusy as error:
            if asyncio.get_running_loop().time() >= give_up_at:
                raise
            logger.warning("The migration waits: %s", error)
            await asyncio.sleep(RETRY_EVERY)


async def _apply_next(
    database: Database, namespace: str, known: Mapping[int, Migration]
) -> str | None:
    async with database.transaction() as connection:
        await connection.execute(_query("have_no_timeouts"))
        await connection.execute(_query("lock_migrations"), LOCK, timeout=TIMEOUT)
        is_new = not await connection.fetchval(_query("has_migrations"))
        done = set() if is_new else await _verify(connection, namespace, known)
        pending = sorted(known.keys() - done)
        if not pending:
            return None
        migration = known[pending[0]]
        try:
            if is_new:
                await _create_record(connection)
            await _apply(connection, namespace, migration)
        except asyncpg.InsufficientPrivilegeError as error:
            raise RightsMissing(
                f"the database lacks migration {migration.name} of {namespace!r}, which this role "
                f"may not apply ({error}): run `redfaust migrate` or `faust -A … create-tables` "
                "as the role that owns the schema redfaust, and start this again"
            ) from error
        return migration.name


async def _create_record(connection: Connection) -> None:
    if not await connection.fetchval(_query("has_schema")):
        await connection.execute(_query("create_schema"))
    await connection.execute(_query("create_migrations"))


async def _apply(connection: Connection, namespace: str, migration: Migration) -> None:
    await connection.execute(_query("set_search_path"))
    await connection.execute(migration.sql, timeout=TIMEOUT)
    await connection.execute(
        _query("insert_migration"),
        namespace,
        migration.number,
        migration.name,
        migration.checksum,
    )


async def _verify(
    connection: Connection, namespace: str, known: Mapping[int, Migration]
) -> set[int]:
    rows = await connection.fetch(_query("select_migrations"), namespace)
    newest = max(known, default=0)
    for row in sorted(rows, key=lambda row: row["number"], reverse=True):
        number, name = row["number"], row["name"]
        if number > newest:
            raise SchemaTooNew(
                f"the database has migration {name} of {namespace!r}, this release ends at "
                f"{newest:04}: start the release that migrated it, or a newer one"
            )
        if number not in known or known[number].checksum != row["checksum"]:
            what = "is missing here" if number not in known else "was edited afterwards"
            raise MigrationChanged(
                f"migration {name} of {namespace!r} was applied but {what}: "
                "restore the file, and put the change into a new migration"
            )
    return {row["number"] for row in rows}


def _read(directory: Path | Traversable) -> dict[int, Migration]:
    known: dict[int, Migration] = {}
    for file in directory.iterdir():
        if not file.name.endswith(".sql"):
            continue
        match = _FILE.fullmatch(file.name)
        if match is None:
            raise ValueError(f"{file.name} is no migration: name it NNNN_name.sql")
        number = int(match[1])
        if number in known:
            raise ValueError(f"{file.name} and {known[number].name}.sql have the same number")
        sql = file.read_text(encoding="utf-8")  # universal newlines: one checksum on all systems
        known[number] = Migration(
            number, file.name.removesuffix(".sql"), sql, hashlib.sha256(sql.encode()).hexdigest()
        )
    return known


def _query(name: str) -> str:
    return load("redfaust.postgres", name)
