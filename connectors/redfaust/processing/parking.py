"""Events that wait for another attempt, out of the way of all others.

An event that failed leaves its partition's log for a *line*: the parked events of one key for one
agent. What comes later with that key queues behind it, in Postgres, so that positions go on and
other keys with them. When the first is due it is handed to its agent once more; when it is done,
the next is.

::

           ┌────────────── it fails again ─────────────┐
           ▼                                           │
        STAGED ──commit──▶ WAITING ──it is due──▶ RETRYING ──done, and the last──▶ GONE
                              ▲                        │                            ▲
                              └─ done, one is behind ──┘      any ──let go──────────┘

What failed is tried again only after that is committed, so that the number of attempts survives any
crash. Parking, failing again and being done are committed with all else that a batch has done.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple, Protocol

from faust.types import TP, Message

from redfaust.outbox.headers import unpack
from redfaust.processing.owned_partition import OwnedMessage, OwnedPartition
from redfaust.processing.shared.message import SharedMessage

MAX_LINES = 100_000
"""Lines of one worker. With more, an agent that fails waits until one is gone."""

MAX_RETRYING = 200
"""Lines whose first event is with its agent at a time."""


class Row(Protocol):
    """A parked event as it is kept, by the names of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


class KeyQueueState(enum.Enum):
    """Where a line is in its life; see the drawing above."""

    STAGED = "staged"
    WAITING = "waiting"
    RETRYING = "retrying"
    GONE = "gone"


@dataclass(eq=False)
class KeyQueue:
    """Parked events of one key for one agent; without a key, a single event."""

    tp: TP
    agent: str
    key: bytes | None
    state: KeyQueueState = KeyQueueState.STAGED
    length: int = 0
    first_id: int = 0
    """Rows of the line have this id or a higher one."""
    due: float = 0.0
    """By the event loop's clock."""
    fetched: deque[Row] = field(default_factory=deque)
    """Rows that were read from the database and not handed out yet."""


class ParkedMessage(OwnedMessage):
    """A message that comes from its line and not from its log."""

    def __init__(
        self, parking: Parking, line: KeyQueue, row: Row, owned_partition: OwnedPartition
    ) -> None:
        super().__init__(
            topic=row["topic"],
            partition=row["partition"],
            offset=int(row["position"]),
            timestamp=row["timestamp"],
            timestamp_type=0,
            headers=list(unpack(row["headers"])),
            key=row["key"],
            value=row["value"],
            checksum=None,
            time_in=time.monotonic(),
            tp=line.tp,
        )
        self.owned_partition = owned_partition
        self.parking = parking
        self.line = line
        self.id: int = row["id"]
        self.attempts: int = row["attempts"]

    def finish(self, n: int = 1) -> bool:  # noqa: ARG002 - one agent has it
        """See :class:`~redfaust.processing.owned_partition.OwnedMessage`. Its position was passed
        when it was parked."""
        self.acked = True
        return True


def attempts_of(message: Message) -> int:
    """How often an event has failed, as far as it was parked or postponed for it."""
    return message.attempts if isinstance(message, ParkedMessage | SharedMessage) else 0


class Failure(NamedTuple):
    """An attempt that failed."""

    attempts: int
    pause: float
    """Seconds until the next."""
    error_type: str | None
    error: str | None


BEHIND = Failure(0, 0.0, None, None)
"""Of an event that has not failed itself."""


@dataclass
class Changes:
    """What is to be committed about parked events."""

    parked: list[tuple[KeyQueue, Message, Failure]] = field(default_factory=list)
    failed: list[tuple[KeyQueue, int, Failure]] = field(default_factory=list)
    """Again, by the row's id."""
    done: list[tuple[KeyQueue, int]] = field(default_factory=list)

    @property
    def tps(self) -> set[TP]:
        """Partitions that these events are from."""
        changed: list[tuple[KeyQueue, *tuple[object, ...]]] = [
            *self.parked,
            *self.failed,
            *self.done,
        ]
        return {line.tp for line, *_ in changed}

    def extend(self, later: Changes) -> None:
        """Add what has come since."""
        self.parked += later.parked
        self.failed += later.failed
        self.done += later.done


class Parking:
    """The lines of the partitions that this worker owns, and what is to be committed of them."""

    def __init__(self) -> None:
        self.lines: dict[tuple[TP, str, bytes], KeyQueue] = {}
        self._alone: set[KeyQueue] = set()
        """Lines without a key."""
        self._changes = Changes()
        self._waiting: list[tuple[float, int, KeyQueue]] = []
        self._order = count()
        self._retrying = 0
        self.changed = asyncio.Event()
        """Set whenever there may be something to retry sooner than it seemed."""
        self._room = asyncio.Event()
        self._room.set()

    def __bool__(self) -> bool:
        return bool(self.lines)

    def __len__(self) -> int:
        return len(self.lines) + len(self._alone)

    def load(self, rows: Iterable[Row]) -> None:
        """Take over the lines of partitions, as ``select_lines.sql`` has them."""
        for row in rows:
            tp = TP(row["topic"], row["partition"])
            line = KeyQueue(tp, row["agent"], row["key"], length=row["length"])
            line.first_id = row["first_id"]
            line.due = _now() + row["due_in"]
            self._assignment(line)
            self._wait(line)

    def let_go(self, tps: Collection[TP]) -> None:
        """Forget the lines of partitions that are somebody else's now."""
        for line in [line for line in (*self.lines.values(), *self._alone) if line.tp in tps]:
            if line.state is KeyQueueState.RETRYING:
                self._retrying -= 1
            self._forget(line)
        self._waiting = [
            entry for entry in self._waiting if entry[2].state is not KeyQueueState.GONE
        ]
        heapq.heapify(self._waiting)
        self.changed.set()

    # -- what happens to events ----------------------------------------------------------------

    def holds(self, agent: str, message: Message) -> bool:
        """Whether an event has to queue behind another of its key."""
        if message.key is None or isinstance(message, ParkedMessage):
            return False
        return (message.tp, agent, message.key) in self.lines

    def queue(self, agent: str, message: Message) -> None:
        """Park an event behind others of its key."""
        assert message.key is not None
        line = self.lines[message.tp, agent, message.key]
        line.length += 1
        self._changes.parked.append((line, message, BEHIND))

    def park(self, agent: str, message: Message, failure: Failure) -> None:
        """Have an event that failed tried again later."""
        if isinstance(message, ParkedMessage):
            line = message.line
            line.fetched.clear()  # they come behind it
            self._changes.failed.append((line, message.id, failure))
            self._stop_retrying(line)
        elif self.holds(agent, message):  # of a batch that failed, the second of its key
            self.queue(agent, message)
            return
        else:
            line = KeyQueue(message.tp, agent, message.key, length=1)
            self._assignment(line)
            self._changes.parked.append((line, message, failure))
        line.due = _now() + failure.pause

    def done(self, message: ParkedMessage) -> None:
        """An event of a line is finished, or given up."""
        line = message.line
        line.length -= 1
        line.first_id = message.id + 1
        self._changes.done.append((line, message.id))
        if line.length:
            self.not_now(line, pause=0)
        else:
            self._stop_retrying(line)
            self._forget(line)

    async def has_room(self) -> None:
        """Wait while there are too many lines."""
        await self._room.wait()

    # -- the commit ----------------------------------------------------------------------------

    @property
    def touched(self) -> set[TP]:
        """Partitions that what is to be committed is from."""
        return self._changes.tps

    def take_changes(self) -> Changes:
        """What is to be committed; give it to :meth:`committed`, or back if that fails."""
        changes, self._changes = self._changes, Changes()
        return changes

    def restore(self, changes: Changes) -> None:
        """Changes that were not committed go before those that have come since."""
        changes.extend(self._changes)
        self._changes = changes

    def committed(self, changes: Changes) -> None:
        """What was committed may be retried."""
        # A line may have failed again, or come to its end, while this was on its way.
        newer = {line for line, _, _ in (*self._changes.parked, *self._changes.failed)}
        for line, _, _ in (*changes.parked, *changes.failed):
            if line.state is KeyQueueState.STAGED and line.length and line not in newer:
                self._wait(line)

    # -- another attempt -----------------------------------------------------------------------

    def seconds_until_due(self) -> float | None:
        """``None``: nothing can be retried until something has changed."""
        if not self._waiting or self._retrying >= MAX_RETRYING:
            return None
        return max(0.0, self._waiting[0][0] - _now())

    def all_due(self, limit: int) -> Sequence[KeyQueue]:
        """Lines that are due, as :meth:`next_due` has them, at most so many."""
        due: list[KeyQueue] = []
        while len(due) < limit and self.seconds_until_due() == 0:
            due.append(self.next_due())
        return due

    def next_due(self) -> KeyQueue:
        """The line that has been due for longest; it is being retried from now on."""
        _, _, line = heapq.heappop(self._waiting)
        line.state = KeyQueueState.RETRYING
        self._retrying += 1
        return line

    def not_now(self, line: KeyQueue, *, pause: float) -> None:
        """Have a line that is being retried wait again, for so many seconds."""
        if line.state is KeyQueueState.GONE:
            return
        self._stop_retrying(line)
        line.due = _now() + pause
        self._wait(line)

    def _assignment(self, line: KeyQueue) -> None:
        if line.key is None:
            self._alone.add(line)
        else:
            self.lines[line.tp, line.agent, line.key] = line
        if len(self) >= MAX_LINES:
            self._room.clear()

    def _forget(self, line: KeyQueue) -> None:
        if line.key is None:
            self._alone.remove(line)
        else:
            del self.lines[line.tp, line.agent, line.key]
        line.state = KeyQueueState.GONE
        self._room.set()

    def _wait(self, line: KeyQueue) -> None:
        line.state = KeyQueueState.WAITING
        heapq.heappush(self._waiting, (line.due, next(self._order), line))
        self.changed.set()

    def _stop_retrying(self, line: KeyQueue) -> None:
        line.state = KeyQueueState.STAGED
        self._retrying -= 1
        self.changed.set()


def _now() -> float:
    return asyncio.get_running_loop().time()
