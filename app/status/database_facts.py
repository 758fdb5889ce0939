"""What the database knows of the application: outbox, retries, dead letters, and itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from faust.types import TP

from app.status.snapshot import (
    Letters,
    LockWait,
    Outbox,
    Progress,
    Retrying,
    Schema,
    Server,
)
from redfaust.outbox.outbox import outbox_status
from redfaust.outbox.relay_member import database_identity
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load
from redfaust.processing.dead_letters import DeadLetters, DeadLetterState
from redfaust.processing.redaction import masked_text

COUNTED = 10_000
"""Rows at which counting ends."""
LOCKED_AFTER = 3.0
"""Seconds after which a session that waits for a lock is worth mentioning."""


async def ask_server(database: Database) -> Server:
    """What the server lets this process do."""
    [row] = await database.fetch(_query("select_server"))
    return Server(**row)


async def ask_identity(database: Database) -> str:
    """The name that the database's relays have in common."""
    async with database.transaction() as connection:
        return await database_identity(connection)


async def ask_schemas(database: Database, known: Mapping[str, int]) -> Sequence[Schema]:
    """What is applied of the migrations that this release knows."""
    rows = await database.fetch(_query("select_schemas"))
    applied = {row["namespace"]: row["applied"] for row in rows}
    return [Schema(name, applied.get(name, 0), newest) for name, newest in known.items()]


async def ask_outbox(database: Database) -> Outbox:
    """What waits to be published."""
    status = await outbox_status(database)
    return Outbox(status.depth, status.oldest_age, status.scheduled, status.late)


async def ask_retrying(database: Database, app: str) -> Sequence[Retrying]:
    """What waits for another attempt."""
    rows = await database.fetch(_query("select_retrying"), app, COUNTED)
    return [
        Retrying(
            **{
                **row,
                "error_type": row["error_type"] or "an error",
                "error": " ".join(masked_text(row["error"] or "").split()),
            }
        )
        for row in rows
        if row["since"] is not None
    ]


async def ask_letters(database: Database, app: str) -> Letters:
    """The dead letters that wait."""
    [row] = await database.fetch(_query("select_letters"), app, COUNTED)
    newest = await DeadLetters(database).list(app=app, state=DeadLetterState.WAITING, limit=1)
    why = f"{newest[0].error_type} in {newest[0].agent or 'no agent'}" if newest else ""
    return Letters(newest_error=why, **row)


async def ask_progress(database: Database, app: str) -> Progress:
    """When something was finished last."""
    rows = await database.fetch(_query("select_progress"), app)
    return Progress(
        partitions={TP(r["topic"], r["partition"]): r["at"] for r in rows if r[1] is not None},
        agents={row["topic"]: row["at"] for row in rows if row["partition"] is None},
    )


async def ask_locks(database: Database) -> Sequence[LockWait]:
    """Sessions that wait for locks."""
    rows = await database.fetch(_query("select_locks"), LOCKED_AFTER)
    return [LockWait(**{**row, "blocker": row["blocker"] or ""}) for row in rows]


def _query(name: str) -> str:
    return load("app.status", name)
