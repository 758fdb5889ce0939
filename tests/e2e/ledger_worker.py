"""A worker that books amounts in two ways, and fails on purpose after it has written."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import faust

app = faust.App(
    "ledger",
    broker=os.environ["LEDGER_BROKER"],
    store=os.environ["LEDGER_STORE"],
    web_enabled=False,
    topic_partitions=4,
)
bookings = app.topic("bookings", key_type=str)
balances = app.Table("balances", key_type=str, value_type=int, default=int)
journal = app.Table("journal", key_type=str, value_type=list, default=list)


class Refused(Exception):
    """The booking was made to fail."""


@app.agent(bookings, concurrency=3, name="balances")
async def keep_balances(stream: Any) -> None:
    async for account, booking in stream.items():
        balances[account] += booking["amount"]
        await asyncio.sleep(0)
        if booking["refuse"]:
            raise Refused


@app.agent(bookings, name="journal")
async def keep_journal(stream: Any) -> None:
    async for account, booking in stream.items():
        entries = journal[account]
        entries.append(booking["number"])
        if booking["refuse"]:
            raise Refused
        journal[account] = entries


if __name__ == "__main__":
    faust.Worker(app, loglevel="ERROR").execute_from_commandline()
