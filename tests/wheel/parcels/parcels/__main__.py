"""Send three scans and print as JSON what came of them: ``python -m parcels DATABASE_URL``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, cast

from parcels.audited import Transport, written
from parcels.tracking import Scan, Tracking
from redfaust import App, Database, DeadLetters, Outbox, Relay, dead_letter_rejected

PATIENCE = 20.0
"""Seconds until what should happen counts as not happening."""


async def main(url: str) -> dict[str, Any]:
    app = App("parcels", broker="audited://here", store=url, web_enabled=False)
    tracking = Tracking(app)
    database = await Database.connect(url)
    letters = DeadLetters(database)
    await app.start()
    transport = cast(Transport, app.transport)
    dead_letter = dead_letter_rejected(database, app.conf.id)
    relay = Relay(database, transport.broker, dead_letter=dead_letter)
    stop = asyncio.Event()
    relaying = asyncio.create_task(relay.run(stop))
    try:
        await tracking.scans.send(key="p-1", value=Scan(place="Ulm"))
        async with Outbox(database).transaction() as transaction:
            await transaction.publish("scans", b'{"place": "Bonn"}', key="p-1")
        await tracking.scans.send(key="p-2", value=Scan(place="nowhere"))
        await app.send("scans", key="p-3", value={"place": ""})
        await eventually(letters)
        async with database.transaction() as connection:
            rows = await connection.fetch("SELECT key, place, scans::int FROM parcels.parcels")
        found = await letters.list(app="parcels")
        return {
            "parcels": [list(row) for row in rows],
            "errors": sorted([letter.error_type, letter.error] for letter in found),
            "written": dict(written),
        }
    finally:
        stop.set()
        await relaying
        await app.stop()
        await database.close()


async def eventually(letters: DeadLetters) -> None:
    """Return when both scans that fail are dead letters, and the others are told."""
    async with asyncio.timeout(PATIENCE):
        while len(await letters.waiting(app="parcels")) < 2 or written["moved"] < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # nobody announces either


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))  # noqa: T201
