"""The application: what is scanned, where each parcel is, and what is told of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from faust.types import EventT, StreamT
from pydantic import BaseModel, Field

from redfaust import App, Retries


class Scan(BaseModel):
    """A parcel was seen somewhere."""

    place: str = Field(min_length=1)
    weight: int = 0


class Parcel(BaseModel, frozen=True):
    """Where it is, and where it has been."""

    place: str = ""
    scans: int = 0


class Tracking:
    """The agents and tables on an application."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.scans = app.topic("scans", key_type=str, value_type=Scan)
        self.moved = app.topic("moved", key_type=str)
        self.lost = app.topic("lost", key_type=str)
        self.parcels = app.Table("parcels", key_type=str, value_type=Parcel, default=Parcel)
        app.agent(
            self.scans,
            retries=Retries(attempts=2, delay=0.01, never=(LookupError,)),
            on_give_up=self.tell,
        )(self.track)

    async def track(self, stream: StreamT[Scan]) -> None:
        """Keep the parcels' places."""
        async for number, scan in stream.items():
            if scan.place == "nowhere":
                raise LookupError(scan.place)
            before = self.parcels[number]
            self.parcels[number] = Parcel(place=scan.place, scans=before.scans + 1)
            await self.moved.send(key=number, value={"from": before.place, "to": scan.place})

    async def tell(self, event: EventT[Scan], error: Exception) -> None:
        """Say that a parcel is lost, a little later."""
        at = datetime.now(UTC) + timedelta(milliseconds=1)
        await self.lost.schedule(at=at, key=event.key, value=str(error))
