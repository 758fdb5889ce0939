"""A test of its own application, as somebody else writes it: ``python -m parcels.rehearsal``."""

from __future__ import annotations

import asyncio

from parcels.tracking import Parcel, Scan, Tracking
from redfaust import App, in_memory


async def main() -> None:
    app = App("parcels", broker="redis://nowhere", store="postgresql://nowhere/parcels")
    tracking = Tracking(app)
    async with in_memory(app) as run:
        await run.send(tracking.scans, key="p-1", value=Scan(place="Ulm"))
        await run.send(tracking.scans, key="p-2", value={"place": "nowhere"})
        await run.settled()
        assert tracking.parcels["p-1"] == Parcel(place="Ulm", scans=1)
        assert [event.value["to"] for event in run.sent(tracking.moved)] == ["Ulm"]
        assert [letter.error for letter in run.dead_letters] == ["nowhere"]
        await run.advance(seconds=1)
        assert [event.key for event in run.sent(tracking.lost)] == ["p-2"]


if __name__ == "__main__":
    asyncio.run(main())
