"""An application's tables emptied, and its events processed once more from the oldest on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import cast

from faust.types import AppT

from redfaust import failpoints
from redfaust.brokers.broker import Broker
from redfaust.errors import ResetRefused
from redfaust.postgres.queries import load
from redfaust.processing.state_backend import PostgresStateBackend
from redfaust.tables.manager import TableManager
from redfaust.tables.store import PostgresStore


async def reset(app: AppT) -> Mapping[str, int]:
    """Delete the rows of all tables, and set the application's positions back to the oldest events.

    What its events send when they are processed again is sent again; what agents with shared
    delivery have processed stays so. Returns how many rows there were, by table.

    Raises :class:`~redfaust.errors.ResetRefused` with what to do before; then nothing has
    changed. After any other error it may be done again.
    """
    tables = cast("TableManager", app.tables)
    broker = cast("Broker", app.transport.broker)  # type: ignore[attr-defined] # ours
    await broker.open()
    try:
        await tables.open_database()
        if not isinstance(tables.state_backend, PostgresStateBackend) or tables.has_changelogs:
            raise ResetRefused(
                "a table is not in Postgres: it would come back from its changelog topic, and what "
                "events add to it be added again"
            )
        if members := (await broker.group_state(app.conf.id)).heard():
            raise ResetRefused(
                f"{len(members)} workers run, {min(members)} among them: stop them, and try again "
                "(who was killed counts for some seconds)"
            )
        topics = await _topics(broker, app.conf.id)
        # Before the positions in the database, which rule: interrupted here, nothing has changed.
        await broker.leave(app.conf.id, topics)
        failpoints.point("reset.left")
        return await _empty(tables, tables.state_backend, app.conf.id, topics)
    finally:
        await tables.on_shutdown()
        await broker.close()


async def _topics(broker: Broker, group: str) -> list[str]:
    groups = await broker.groups(await broker.topics())
    return [topic for topic, joined in groups.items() if group in joined]


async def _empty(
    tables: TableManager, state_backend: PostgresStateBackend, app_id: str, topics: Collection[str]
) -> Mapping[str, int]:
    deleted: dict[str, int] = {}
    async with state_backend.database.transaction() as connection:
        await connection.execute(load("redfaust.tables", "begin_anew"), app_id, list(topics))
        await connection.execute(load("redfaust.tables", "forget_parked"), app_id, list(topics))
        for table in tables.postgres_tables():
            deleted[table.name] = await cast("PostgresStore", table.data).delete_all(connection)
    return deleted
