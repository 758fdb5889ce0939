"""The worker that is killed. Started as ``python -m tests.torture.worker``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, cast

import faust
from faust.types import EventT
from mode import loop
from pydantic import BaseModel

from redfaust.processing.parking import attempts_of
from redfaust.processing.retries import Retries
from tests.torture import ledger
from tests.torture.ledger import APP, READS, TABLES, Agent, Fate, Row, fate, outputs

RETRIES = Retries(attempts=ledger.ATTEMPTS, delay=0.05, factor=2, max_delay=0.5)

seed = int(os.environ[ledger.SEED_VARIABLE])
app = faust.App(
    APP,
    broker=os.environ[ledger.BROKER_VARIABLE],
    store=os.environ[ledger.DATABASE_VARIABLE],
    web_enabled=False,
    topic_partitions=ledger.PARTITIONS,
    topic_disable_leader=True,
)


class Debits(BaseModel):
    """A row that Postgres may refuse, for it has an index."""

    bookings: int = 0
    total: int = 0
    last: int = 0
    chain: int = 0
    memo: str = ""


topics = {
    name: app.topic(name, key_type=str)
    for name in (ledger.TRANSFERS, ledger.ENTRIES, ledger.BOOKED, ledger.AUDITED)
}
debits = app.Table(
    TABLES[Agent.DEBIT],
    key_type=str,
    value_type=Debits,
    default=Debits,
    options={"indexes": ["memo"]},
)
audits = app.Table(TABLES[Agent.AUDIT], key_type=str, value_type=dict, default=dict)
credits_ = app.Table(TABLES[Agent.CREDIT], key_type=str, value_type=dict, default=dict)
batches = app.Table(TABLES[Agent.BATCH], key_type=str, value_type=dict, default=dict)


async def tell_that_it_has_started() -> None:
    """A worker that is stopped before may have found no server, and ends with an error."""
    await asyncio.to_thread(Path(os.environ[ledger.STARTED_VARIABLE]).touch)


app.task(tell_that_it_has_started)


class OnPurpose(Exception):
    """The agent was made to fail."""


def fail_on_purpose(agent: Agent, *events: EventT[Any]) -> None:
    """Raise if that is the fate of one of these events. Call it when everything is written and
    sent."""
    for event in events:
        number = cast("dict[str, Any]", event.value)["number"]
        match fate(seed, agent, number):
            case Fate.POISON:
                raise OnPurpose(f"{agent} always fails at {number}")
            case Fate.FAILS_ONCE if not attempts_of(event.message):
                raise OnPurpose(f"{agent} fails at {number} the first time")


def current() -> EventT[Any]:
    """The event that is processed."""
    event = faust.current_event()
    assert event is not None
    return event


async def send_all(agent: Agent, value: dict[str, Any], row: Row) -> None:
    """Send what the agent sends for an event."""
    for output in outputs(agent, value, row):
        await topics[output.topic].send(key=output.key, value=dict(output.value))


@app.agent(topics[READS[Agent.DEBIT]], name=Agent.DEBIT, retries=RETRIES, concurrency=3)
async def debit(stream: Any) -> None:
    async for payer, transfer in stream.items():
        before = debits[payer]
        row = Row(before.bookings, before.total, before.last, before.chain)
        row = row.and_then(transfer["number"], transfer["amount"])
        debits[payer] = Debits(**row._asdict(), memo=transfer["memo"])
        await asyncio.sleep(0)  # lets the other instances in
        await send_all(Agent.DEBIT, transfer, row)
        fail_on_purpose(Agent.DEBIT, current())


async def send_audited(audited: tuple[dict[str, Any], Row]) -> None:
    """The sink of ``audit``: what fails here fails for the event."""
    transfer, row = audited
    await asyncio.sleep(0)
    await send_all(Agent.AUDIT, transfer, row)
    fail_on_purpose(Agent.AUDIT, current())


@app.agent(topics[READS[Agent.AUDIT]], name=Agent.AUDIT, retries=RETRIES, sink=[send_audited])
async def audit(stream: Any) -> Any:
    async for payer, transfer in stream.items():
        row = Row(**audits[payer]).and_then(transfer["number"], transfer["amount"])
        audits[payer] = row._asdict()
        yield transfer, row


@app.agent(topics[READS[Agent.CREDIT]], name=Agent.CREDIT, retries=RETRIES)
async def credit(stream: Any) -> None:
    async for receiver, entry in stream.items():
        row = Row(**credits_[receiver]).and_then(entry["number"], entry["amount"])
        credits_[receiver] = row._asdict()
        await send_all(Agent.CREDIT, entry, row)
        fail_on_purpose(Agent.CREDIT, current())


@app.agent(topics[READS[Agent.BATCH]], name=Agent.BATCH, retries=RETRIES)
async def batch(stream: Any) -> None:
    async for events in stream.take_events(50, within=0.1):
        for entry in [event.value for event in events]:
            row = Row(**batches[entry["to"]]).and_then(entry["number"], entry["amount"])
            batches[entry["to"]] = row._asdict()
            await send_all(Agent.BATCH, entry, row)
        fail_on_purpose(Agent.BATCH, *events)


def run() -> None:
    """Work until SIGTERM."""
    loop.use("uvloop")
    app.Worker(loglevel="WARNING", quiet=True).execute_from_commandline()


if __name__ == "__main__":
    run()
