"""The worker that is fuzzed. Started as ``python -m tests.fuzz.worker``."""

from __future__ import annotations

import os
from typing import Any

import faust
from mode import loop

from redfaust.processing.retries import Retries
from tests.fuzz import ledger
from tests.fuzz.ledger import Payment, Row
from tests.kafka_server import poll_slowly

RETRIES = Retries(attempts=2, delay=0.05)

app = faust.App(
    ledger.APP,
    broker=os.environ[ledger.BROKER_VARIABLE],
    store=os.environ[ledger.DATABASE_VARIABLE],
    web_enabled=False,
    topic_partitions=ledger.PARTITIONS,
    topic_disable_leader=True,
)
payments, receipts, notices, told = (
    app.topic(name, key_type=str, value_type=Payment)  # type: ignore[arg-type] # pydantic's
    for name in ledger.TOPICS
)
books, checks, heard = (
    app.Table(name, key_type=str, value_type=Row, default=Row)
    for name in ("books", "checks", "heard")
)


@app.agent(payments, name="book", retries=RETRIES)
async def book(stream: Any) -> None:
    async for key, payment in stream.items():
        books[key] = books[key].and_then(payment)
        await receipts.send(key=key, value=payment)


@app.agent(receipts, name="check", retries=RETRIES)
async def check(stream: Any) -> None:
    async for key, payment in stream.items():
        checks[key] = checks[key].and_then(payment)


@app.agent(notices, name=ledger.TELL, retries=RETRIES, delivery="shared", concurrency=4)
async def tell(stream: Any) -> None:
    async for event in stream.events():
        await told.send(key=event.key or "nobody", value=event.value)


@app.agent(told, name="hear", retries=RETRIES)
async def hear(stream: Any) -> None:
    async for key, payment in stream.items():
        # Shared delivery keeps no order.
        heard[key] = heard[key].and_then(payment, in_order=False)


def run() -> None:
    """Work until SIGTERM."""
    loop.use("uvloop")
    poll_slowly()
    app.Worker(loglevel="WARNING", quiet=True).execute_from_commandline()


if __name__ == "__main__":
    run()
