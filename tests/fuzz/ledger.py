"""The application that is fuzzed, as far as its worker and the checks have to agree on it.

::

    payments (key) ─▶ book ──▶ books (one row for each key)
                       └─▶ receipts (key) ─▶ check ──▶ checks
    notices ─▶ tell (shared) ─▶ told (key) ─▶ hear ──▶ heard

Each good event of a key carries a number that is one above the number before it. A row counts the
events of its key and those among them that were out of order, so a row alone tells whether an event
was lost, doubled or swapped.
"""

from __future__ import annotations

from pydantic import BaseModel

APP = "fuzz"
BROKER_VARIABLE = "FUZZ_BROKER"
DATABASE_VARIABLE = "FUZZ_DATABASE"
PARTITIONS = 4

PAYMENTS = "payments"
RECEIPTS = "receipts"
NOTICES = "notices"
TOLD = "told"
TOPICS = (PAYMENTS, RECEIPTS, NOTICES, TOLD)

TELL = "tell"
"""The agent with shared delivery."""

GOOD_KEYS = tuple(f"good-{number}" for number in range(12))
"""Keys under which only the good traffic sends."""

EDITED_KEYS = ("edited-1", "edited-2")
"""Keys whose rows are edited by hand."""


class Payment(BaseModel):
    """The value of an event."""

    number: int
    amount: int


class Row(BaseModel):
    """What an agent keeps of the events of a key."""

    count: int = 0
    total: int = 0
    last: int = 0
    disorders: int = 0
    """Events whose number did not follow the number before it."""

    def and_then(self, payment: Payment, *, in_order: bool = True) -> Row:
        """The row after one more event."""
        follows = not in_order or payment.number == self.last + 1
        return Row(
            count=self.count + 1,
            total=self.total + payment.amount,
            last=payment.number,
            disorders=self.disorders + (not follows),
        )


def amount_of(number: int) -> int:
    """What the good event of this number moves."""
    return number * 7 % 1000
