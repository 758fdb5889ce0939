"""What should have happened: a function of the plan and of the order on the streams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from redfaust.brokers.partitioner import partition_of
from tests.torture.history import Entry, History
from tests.torture.ledger import (
    AUDITED,
    BOOKED,
    ENTRIES,
    PARTITIONS,
    READS,
    TRANSFERS,
    Agent,
    Fate,
    Output,
    Row,
    fate,
    outputs,
)
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
        self.runs = {agent: list(self._runs(agent, _in_order(agent, history))) for agent in Agent}

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


def _in_order(agent: Agent, history: History) -> Sequence[Entry]:
    """What an agent reads, in the order in which it has to process it.

    That is the order on the stream. But what a failover took from it had been processed by then,
    and came again in another order, where several had sent it. Then it is the order that the agent
    tells by what it sends, if all entries of a producer are in theirs.
    """
    entries = history.streams[READS[agent]]
    if not history.failed_over or READS[agent] != ENTRIES:
        return entries
    places = _places(agent, history)
    of_key: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        of_key[entry.key].append(entry)
    return [entry for key in of_key.values() for entry in _as_booked(key, places)]


def _places(agent: Agent, history: History) -> Mapping[tuple[str, int | None], int]:
    """Which one of its key a booking was, as the agent tells."""
    topic = BOOKED if agent is Agent.CREDIT else AUDITED
    told = [(entry, entry.decoded) for entry in history.streams[topic]]
    return {
        (entry.key, entry.number): value["place"] for entry, value in told if value["as"] == agent
    }


def _as_booked(
    entries: Sequence[Entry], places: Mapping[tuple[str, int | None], int]
) -> Sequence[Entry]:
    # A dead letter has no place, and changes no row: it stays behind the one before it.
    order, place = {}, 0
    for number, entry in enumerate(entries):
        place = places.get((entry.key, entry.number), place)
        order[entry] = (place, number)
    booked = sorted(entries, key=order.__getitem__)
    return booked if _by_producer(booked) == _by_producer(entries) else entries


def _by_producer(entries: Sequence[Entry]) -> Mapping[int, Sequence[Entry]]:
    """By the partition of the payer, whose owner has sent them."""
    found: defaultdict[int, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[partition_of(entry.decoded["from"].encode(), PARTITIONS)].append(entry)
    return found


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
