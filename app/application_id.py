"""The shop works in one consumer group: its own.

In the group of another application its workers would get partitions of topics that they do not
read, whose events then wait. So the database knows the id under which the shop works on it, and the
first worker takes none that another application uses.
"""

from __future__ import annotations

import asyncpg

from agents.topics import NAMES
from app.broker import open_broker
from app.errors import AppIdTaken
from app.settings import Settings
from redfaust.brokers.broker import Broker
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load


async def claim_app_id(settings: Settings) -> None:
    """Make ``settings.app_id`` the shop's, or make sure that it is.

    Raises :class:`~app.errors.AppIdTaken`, and RedfaustError.
    """
    database = await Database.connect(settings.database.get_secret_value())
    try:
        try:
            rows = await database.fetch(load("app", "select_application"))
        except asyncpg.UndefinedTableError:
            raise AppIdTaken("the shop's tables are missing: run `redfaust migrate`") from None
        if not rows:
            async with open_broker(settings) as broker:
                await _refuse_others(settings.app_id, broker, database)
            rows = await database.fetch(load("app", "claim_application"), settings.app_id)
    finally:
        await database.close()
    if rows[0]["id"] != settings.app_id:
        raise AppIdTaken(
            f"the shop of this database works as {rows[0]['id']}, not as {settings.app_id}: a "
            f"worker of it in the group of {settings.app_id} would hold up that application. Run "
            f"that one by `faust -A <module> worker`; for a shop, set REDFAUST_APP_ID="
            f"{rows[0]['id']}, or another REDFAUST_DATABASE"
        )


async def _refuse_others(app_id: str, broker: Broker, database: Database) -> None:
    members = (await broker.group_state(app_id)).heard()
    joined = await broker.groups(await broker.topics())
    used = {topic for topic, groups in joined.items() if app_id in groups}
    used |= {row["topic"] for row in await database.fetch(load("app", "select_topics"), app_id)}
    others = sorted(topic for topic in used - NAMES if not topic.startswith(f"{app_id}-"))
    if members or others:
        reads = f", which reads {', '.join(others)}" if others else ""
        raise AppIdTaken(
            f"{app_id} is another application{reads}: a worker of the shop in its group would hold "
            "it up. Choose a REDFAUST_APP_ID that nobody uses"
        )
