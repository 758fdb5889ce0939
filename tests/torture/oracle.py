"""What should have happened: a function of the plan and of the order on the streams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.torture.history import Entry, History
from tests.torture.ledger import READS, TRANSFERS, Agent, Fate, Output, Row, fate, outputs
from tests.torture.plan import Kind, Plan, Transfer

UNREADABLE = frozenset({Kind.UNDECODABLE, Kind.WRONG_TYPE})
"""What no agent can process."""
UNWRITABLE = frozenset({Kind.UNSTORABLE, Kind.REFUSED})
"""What ``debit`` cannot write."""
SENDS_BEFORE_IT_FAILS = frozenset({Kind.GOOD, Kind.REFUSED})


@dataclass(frozen=True, slots=True)
class Run:
    """What an agent has to make of an event."""

    entry: Entry
    booked: bool
    """Otherwise it is a dead letter."""
    row: Row
    """Of its key, when it is over."""
    sends: Sequence[Output]
    """What is sent for it, also by runs that failed."""


class Oracle:
    """The runs of each agent, in the order of its stream."""

    def __init__(self, history: History) -> None:
        self.transfers = transfers_of(history.plan)
        self._plan = history.plan
        self.runs = {
            agent: list(self._runs(agent, history.streams[READS[agent]])) for agent in Agent
        }

    def _runs(self, agent: Agent, entries: Sequence[Entry]) -> Iterator[Run]:
        rows: defaultdict[str, Row] = defaultdict(Row)
        for entry in entries:
            transfer = self.transfers.get(entry.number or 0)
            if transfer is None:
                continue  # nobody sent it, which is a violation by itself
            before = rows[entry.key]
            if READS[agent] == TRANSFERS and transfer.kind in UNREADABLE:
                yield Run(entry, False, before, ())
                continue
            after = before.and_then(transfer.number, transfer.amount)
            booked = books(self._plan.seed, agent, transfer)
            if booked:
                rows[entry.key] = after
            sends: Sequence[Output] = ()
            if agent is not Agent.DEBIT or transfer.kind in SENDS_BEFORE_IT_FAILS:
                sends = outputs(agent, _value(transfer), after)
            yield Run(entry, booked, after if booked else before, sends)


def transfers_of(plan: Plan) -> Mapping[int, Transfer]:
    """All transfers by number, those that were taken back among them."""
    return {transfer.number: transfer for step in plan.steps for transfer in step.transfers}


def books(seed: int, agent: Agent, transfer: Transfer) -> bool:
    """Whether an agent books a transfer in the end; otherwise it is one of its dead letters."""
    if READS[agent] == TRANSFERS and transfer.kind in UNREADABLE:
        return False
    if agent is Agent.DEBIT and transfer.kind in UNWRITABLE:
        return False
    return fate(seed, agent, transfer.number) is not Fate.POISON


def _value(transfer: Transfer) -> Mapping[str, str | int]:
    return {
        "number": transfer.number,
        "from": transfer.payer,
        "to": transfer.receiver,
        "amount": transfer.amount,
    }
