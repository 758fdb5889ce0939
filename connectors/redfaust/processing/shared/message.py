"""An entry on its way from its claim through an agent.

::

                   ┌───────────── it is due ───────────┐
                   ▼                                   │
    claimed ──▶ WAITING ──▶ IN_PROGRESS ──it raised──▶ POSTPONED
                              │
                finished, or given up
                              ▼
                           FINISHED ──commit──▶ COMMITTED ──▶ (acknowledged)

    any other ──another consumer has claimed it, or it was released──▶ LOST
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from faust.types import TP, ConsumerMessage, Message

from redfaust.brokers.broker import Outgoing
from redfaust.brokers.share_group import Claim
from redfaust.outbox.outbox import Scheduled
from redfaust.processing.changes import Causes
from redfaust.processing.scope import acknowledging

if TYPE_CHECKING:
    from redfaust.processing.dead_letters import NewDeadLetter


class State(enum.Enum):
    """Where a message is in its life; see the drawing above."""

    WAITING = "waiting"
    IN_PROGRESS = "in progress"
    POSTPONED = "postponed"
    FINISHED = "finished"
    COMMITTED = "committed"
    LOST = "lost"


@dataclass
class Effects:
    """What an event has done, to be committed with the note that it is finished."""

    sent: list[Outgoing] = field(default_factory=list)
    scheduled: list[Scheduled] = field(default_factory=list)
    letters: list[NewDeadLetter] = field(default_factory=list)

    def send(self, source: TP, entry: Outgoing, causes: Causes) -> None:  # noqa: ARG002 - in no order
        """See :class:`~redfaust.processing.scope.Outlet`."""
        self.sent.append(entry)

    def schedule(self, entry: Outgoing, at: datetime, causes: Causes) -> None:  # noqa: ARG002
        """See :class:`~redfaust.processing.scope.Outlet`."""
        self.scheduled.append(Scheduled(entry, at))

    def add_dead_letter(self, letter: NewDeadLetter) -> None:
        """Keep a failed event."""
        self.letters.append(letter)


class NotOwned:
    """What a message has in the place of an owned partition whose partition is none of its
    business."""

    counts = True
    may_begin = False
    """As far as the loop can see; whether it may be begun is the stream's to say."""


class SharedMessage(ConsumerMessage):
    """A message that this worker has claimed."""

    timestamp_type = 0
    checksum = None
    generation_id = 0
    owned_partition = NotOwned()

    def __init__(self, claim: Claim, finish: Callable[[SharedMessage], None]) -> None:
        self.topic, self.partition = self.tp = claim.tp
        record = claim.record
        self.offset, self.timestamp, self.key, self.value, headers, self.source = record
        self.size = len(record.value or b"")
        """Bytes of its value."""
        self.headers = headers  # type: ignore[assignment] # a sequence, as Faust reads them
        self.deliveries = claim.deliveries
        self.attempts = 0
        """How often it has failed."""
        self.state = State.WAITING
        self.effects = Effects()
        self._finish = finish
        self.refcount = 1
        self.time_in = time.monotonic()
        self.time_out = self.time_total = None
        self.acked = self.tracked = False

    def ack(self, consumer: Any, n: int = 1) -> bool:  # noqa: ARG002 - the consumer did not deliver it
        """What an application says by its event; what it did counts."""
        stream = acknowledging()
        return self.finish(n) if stream is None else stream.finish(self)

    def finish(self, n: int = 1) -> bool:  # noqa: ARG002 - one agent has it
        """Note the event as finished."""
        if not self.acked:
            self.acked = True
            self._finish(self)
        return True

    @property
    def serialized_key_size(self) -> int:  # type: ignore[override]
        return len(self.key or b"")

    @property
    def serialized_value_size(self) -> int:  # type: ignore[override]
        return len(self.value or b"")


def outlet_of(message: Message) -> Effects | None:
    """Where what an event sends goes, if not with the commit of its partition."""
    return message.effects if isinstance(message, SharedMessage) else None
