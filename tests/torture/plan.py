"""What is sent, as a function of the seed."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from string import ascii_letters
from typing import NamedTuple

import orjson

ACCOUNTS = 500
POISON = 0.01
"""Share of the transfers that no agent, or not all of them, can process."""
TAKEN_BACK = 0.1
"""Share of the transactions that are rolled back on purpose."""
LONGEST_STEP = 40
TOO_LONG = 8000
"""Letters, drawn at random so that they cannot be compressed, that are too long for an index."""


class Kind(enum.Enum):
    """What is the matter with a transfer's bytes."""

    GOOD = "good"
    UNDECODABLE = "no JSON"
    WRONG_TYPE = "an amount that is a text"
    UNSTORABLE = "a text that Postgres cannot hold, which the agent learns when it writes the row"
    REFUSED = "a text too long for its index, which is learnt at the commit"


BAD = {Kind.UNDECODABLE: 8, Kind.WRONG_TYPE: 6, Kind.UNSTORABLE: 5, Kind.REFUSED: 1}
"""Shares. What is refused at the commit has the worker start over, which is rare and slow."""


class Route(enum.Enum):
    """How a transfer reaches its stream. An account uses one: its transfers have an order."""

    XADD = "XADD"
    OUTBOX = "outbox"


class Transfer(NamedTuple):
    """Money on its way, with a number of its own."""

    number: int
    payer: str
    receiver: str
    amount: int
    kind: Kind

    @property
    def value(self) -> bytes:
        """The event's bytes."""
        if self.kind is Kind.UNDECODABLE:
            return b'\xff{"number": %d' % self.number
        return orjson.dumps(
            {
                "number": self.number,
                "from": self.payer,
                "to": self.receiver,
                "amount": "many" if self.kind is Kind.WRONG_TYPE else self.amount,
                "memo": self._memo,
            }
        )

    @property
    def _memo(self) -> str:
        match self.kind:
            case Kind.UNSTORABLE:
                return "\0"
            case Kind.REFUSED:
                return "".join(Random(self.number).choices(ascii_letters, k=TOO_LONG))
            case _:
                return ""


@dataclass(frozen=True, slots=True)
class Step:
    """Transfers that are written at once: in one pipeline, or in one transaction."""

    route: Route
    transfers: tuple[Transfer, ...]
    taken_back: bool = False
    """The transaction is rolled back when it has written everything."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is sent, in its order."""

    seed: int
    steps: tuple[Step, ...]

    def sent(self) -> Iterator[Transfer]:
        """What has to be on the stream: all transfers but those that were taken back."""
        for step in self.steps:
            if not step.taken_back:
                yield from step.transfers


def make_plan(seed: int, transfers: int) -> Plan:
    """So many transfers, those that are taken back among them."""
    choose = Random(f"plan {seed}")
    steps = []
    number = 0
    while number < transfers:
        route = choose.choice(list(Route))
        length = min(choose.randint(1, LONGEST_STEP), transfers - number)
        batch = tuple(_transfer(choose, number + n, route) for n in range(1, length + 1))
        taken_back = route is Route.OUTBOX and choose.random() < TAKEN_BACK
        steps.append(Step(route, batch, taken_back))
        number += length
    return Plan(seed, tuple(steps))


def _transfer(choose: Random, number: int, route: Route) -> Transfer:
    half = 0 if route is Route.XADD else 1
    payer = choose.randrange(ACCOUNTS // 2) * 2 + half
    receiver = (payer + choose.randrange(1, ACCOUNTS)) % ACCOUNTS
    poison = choose.random() < POISON
    kind = choose.choices(list(BAD), list(BAD.values()))[0] if poison else Kind.GOOD
    # A row that is refused takes all events with it that changed it since the last commit; which
    # ones these are is nobody's choice. So it is a row of its own.
    name = f"refused-{number}" if kind is Kind.REFUSED else f"account-{payer}"
    return Transfer(number, name, f"account-{receiver}", choose.randint(1, 1000), kind)
