"""The application that is tortured, as far as worker and oracle have to agree on it.

::

    transfers ─┬─▶ debit ─┬─▶ entries ─┬─▶ credit ──▶ booked
     (payer)   │          │ (receiver) │             (account)
               │          └─▶ booked   └─▶ batch ───▶ audited
               └─▶ audit ───▶ audited                (account)

In brackets what a topic is keyed by: it is also the key of the table that each of its readers
writes, where an account has a row.
``debit`` runs in three instances; ``audit`` sends through an asynchronous sink; ``batch`` takes
many events at a time.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

APP = "torture"
BROKER_VARIABLE = "TORTURE_BROKER"
DATABASE_VARIABLE = "TORTURE_DATABASE"
SEED_VARIABLE = "TORTURE_SEED"
STARTED_VARIABLE = "TORTURE_STARTED"
"""Names a file that a worker makes when it has started."""
PARTITIONS = 4
ATTEMPTS = 8
"""Runs of an agent for an event. What fails once needs two; but an event of a batch fails with the
others of it, in one batch after another perhaps."""

TRANSFERS = "transfers"
ENTRIES = "entries"
BOOKED = "booked"
AUDITED = "audited"


class Agent(enum.StrEnum):
    """The agents by name."""

    DEBIT = "debit"
    AUDIT = "audit"
    CREDIT = "credit"
    BATCH = "batch"


READS = {
    Agent.DEBIT: TRANSFERS,
    Agent.AUDIT: TRANSFERS,
    Agent.CREDIT: ENTRIES,
    Agent.BATCH: ENTRIES,
}
TABLES = {
    Agent.DEBIT: "debits",
    Agent.AUDIT: "audits",
    Agent.CREDIT: "credits",
    Agent.BATCH: "batches",
}


class Row(NamedTuple):
    """What a table keeps of an account, and what an agent did for it up to now."""

    bookings: int = 0
    total: int = 0
    last: int = 0
    chain: int = 0
    """Depends on all numbers and their order."""

    def and_then(self, number: int, amount: int) -> Row:
        """The row after one more booking."""
        chain = zlib.crc32(number.to_bytes(8), self.chain)
        return Row(self.bookings + 1, self.total + amount, number, chain)


class Output(NamedTuple):
    """An event that an agent sends: to a topic, under a key."""

    topic: str
    key: str
    value: Mapping[str, Any]


def outputs(agent: Agent, value: Mapping[str, Any], row: Row) -> list[Output]:
    """What an agent sends for an event, with the row as it is then."""
    place = {"number": value["number"], "place": row.bookings, "total": row.total}
    match agent:
        case Agent.DEBIT:
            entry = {name: value[name] for name in ("number", "from", "to", "amount")}
            return [
                Output(ENTRIES, value["to"], entry),
                Output(BOOKED, value["from"], {"as": "debit", **place}),
            ]
        case Agent.AUDIT:
            return [Output(AUDITED, value["from"], {"as": "audit", **place})]
        case Agent.CREDIT:
            return [Output(BOOKED, value["to"], {"as": "credit", **place})]
        case Agent.BATCH:
            return [Output(AUDITED, value["to"], {"as": "batch", **place})]


class Fate(enum.Enum):
    """What becomes of an agent's runs for an event that is good in itself."""

    FINE = "fine"
    FAILS_ONCE = "fails once"
    POISON = "fails always"


FAILS_ALWAYS = {Agent.DEBIT: 0.01, Agent.AUDIT: 0.01, Agent.CREDIT: 0.01}
"""Shares. Nothing makes ``batch`` fail always: it would take others with it, and which ones is
nobody's choice."""
FAILS_ONCE = {Agent.DEBIT: 0.1, Agent.AUDIT: 0.1, Agent.CREDIT: 0.1, Agent.BATCH: 0.002}
"""Shares. A run of ``batch`` has some fifty events, any of which makes it fail."""


def fate(seed: int, agent: Agent, number: int) -> Fate:
    """What becomes of an agent's runs for a transfer, each agent's having its own."""
    digest = blake2b(f"{seed} {agent} {number}".encode(), digest_size=8).digest()
    group_state = int.from_bytes(digest) / 2**64
    always = FAILS_ALWAYS.get(agent, 0.0)
    if group_state < always:
        return Fate.POISON
    return Fate.FAILS_ONCE if group_state < always + FAILS_ONCE[agent] else Fate.FINE
