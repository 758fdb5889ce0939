"""A commit whose answer was lost is not repeated if it happens after all."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import asyncpg

from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.postgres.queries import load
from tests.integration.faust_apps import eventually

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'"


async def test_a_commit_that_is_on_its_way_is_waited_for(database_url: str) -> None:
    database = await Database.connect(database_url)
    await migrate(database)
    find, batch = load("redfaust.processing", "find_batch"), uuid4()
    await database.pool.execute(
        "INSERT INTO redfaust.positions (app, topic, partition, log, position)"
        " VALUES ('app', 'topic', 0, 'log', 1)"
    )
    assert not await database.pool.fetchval(find, "app", batch)
    late, asking = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    async with late.transaction():
        await late.execute("UPDATE redfaust.positions SET batch = $1", batch)
        answer = asyncio.ensure_future(asking.fetchval(find, "app", batch))
        pid = asking.get_server_pid()

        async def waits() -> bool:
            return answer.done() or bool(await database.pool.fetchval(WAITING, pid))

        await eventually(waits)
    assert await answer
    await late.close()
    await asking.close()
    await database.close()
