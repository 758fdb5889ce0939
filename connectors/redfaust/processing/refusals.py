"""Which events have done what Postgres refuses.

A commit merges what many events did. When Postgres refuses it, its effects are written once more,
in the order of the events and within a transaction that is taken back, by *parts*: what was done by
one event, or by several that wrote the same row. A part that is refused is found by bisection. What
was written stays until the end, so that a row finds the row that it refers to, and what Postgres
defers to the commit (constraints, triggers) is checked behind each attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from faust.types import TP, Message

from redfaust.brokers.broker import Outgoing
from redfaust.errors import RedfaustError
from redfaust.outbox.outbox import Scheduled
from redfaust.postgres.database import Connection
from redfaust.postgres.driver_errors import is_refusal
from redfaust.postgres.queries import load
from redfaust.processing.changes import Cause, Causes, Changes, Row
from redfaust.processing.dead_letters import NewDeadLetter
from redfaust.processing.parking import Failure, KeyQueue
from redfaust.processing.unit_of_work import Batch, Rows

MAX_KEPT = 1_000
"""Attempts whose writes are kept until the end. Each takes a place in the server's table of locks.
With more, those events are named that were found; the next commit finds the others."""

Write: TypeAlias = Callable[[Batch], Awaitable[None]]
"""Writes the effects of a batch into the transaction. Raises what Postgres raises."""


class EventsRefused(RedfaustError):
    """Postgres does not take what events have done, and never will."""

    def __init__(self, causes: Mapping[Cause, tuple[str, Exception]]) -> None:
        self.causes = causes
        """Which events, with what they did and the database's reason."""
        label, error = next(iter(causes.values()))
        super().__init__(f"{label} was refused: {error}")


class _Piece(NamedTuple):
    """A row, an entry or a parked event."""

    label: str
    causes: Sequence[Cause]
    """Empty where it was no event."""
    put: Callable[[_Draft], None]


class _Draft:
    """A batch in the making."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.rows: dict[Rows, Changes] = {}

    def row(self, table: Rows, key: Any, row: Row) -> None:
        self.rows.setdefault(table, Changes()).rows[key] = row

    def parked(self, parked: tuple[KeyQueue, Message, Failure]) -> None:
        self.batch.parked.parked.append(parked)

    def failed(self, failed: tuple[KeyQueue, int, Failure]) -> None:
        self.batch.parked.failed.append(failed)

    def sent(self, source: TP, sent: tuple[Outgoing, Causes]) -> None:
        self.batch.sent[source].append(sent)

    def scheduled(self, scheduled: tuple[Scheduled, Causes]) -> None:
        self.batch.scheduled.append(scheduled)

    def letter(self, letter: NewDeadLetter) -> None:
        self.batch.letters.append(letter)

    def finished(self) -> Batch:
        self.batch.rows = list(self.rows.items())
        return self.batch


@dataclass(slots=True)
class Part:
    """What was done together."""

    label: str
    causes: dict[Cause, None] = field(default_factory=dict)
    pieces: list[_Piece] = field(default_factory=list)
    letter: NewDeadLetter | None = None
    """The part is this, and nothing else."""


class Refusal(NamedTuple):
    """A part that Postgres does not take."""

    part: Part
    error: Exception


def parts_of(batch: Batch) -> list[Part]:
    """The effects of a batch, by who did them."""
    pieces = list(_pieces(batch))
    same = _Same()
    for piece in pieces:
        same.join(piece.causes)
    parts: dict[object, Part] = {}
    for number, piece in enumerate(pieces):
        together = same.root(piece.causes[0]) if piece.causes else number
        part = parts.setdefault(together, Part(piece.label))
        part.causes.update(dict.fromkeys(piece.causes))
        part.pieces.append(piece)
    letters = [
        Part("a dead letter", letter=letter, pieces=[_piece_of(letter)]) for letter in batch.letters
    ]
    return [*parts.values(), *letters]


async def find_refused(
    connection: Connection, parts: Sequence[Part], write: Write
) -> list[Refusal]:
    """Those of the parts that Postgres does not take, within a transaction that is as before then.

    Empty where all are taken now: the reason lies elsewhere.
    """
    attempts = _Attempts(connection, write)
    await connection.execute(_query("begin_attempt"))
    try:
        found = await attempts.find(parts)
    finally:
        await _undo(connection)
    return found or await attempts.find_by_prefix(parts)


class _Attempts:
    def __init__(self, connection: Connection, write: Write) -> None:
        self._connection = connection
        self._write = write
        self._kept = 0

    async def find(self, parts: Sequence[Part]) -> list[Refusal]:
        """Keeps what Postgres takes of the parts."""
        if not parts or self._kept >= MAX_KEPT:
            return []
        error = await self._attempt(parts)
        if error is None:
            self._kept += 1
            return []
        if len(parts) == 1:
            return [Refusal(parts[0], error)]
        middle = len(parts) // 2
        return [*await self.find(parts[:middle]), *await self.find(parts[middle:])]

    async def find_by_prefix(self, parts: Sequence[Part]) -> list[Refusal]:
        """The first part with which Postgres refuses all up to there, where it takes each alone."""
        error = await self._attempt(parts, keep=False)
        if error is None:
            return []
        taken, refused = 0, len(parts)
        while refused - taken > 1:
            middle = (taken + refused) // 2
            if (found := await self._attempt(parts[:middle], keep=False)) is None:
                taken = middle
            else:
                refused, error = middle, found
        return [Refusal(parts[refused - 1], error)]

    async def _attempt(self, parts: Sequence[Part], *, keep: bool = True) -> Exception | None:
        draft = _Draft()
        for part in parts:
            for piece in part.pieces:
                piece.put(draft)
        await self._connection.execute(_query("begin_attempt"))
        try:
            await self._write(draft.finished())
            await self._connection.execute(_query("check_constraints"))
            await self._connection.execute(_query("defer_constraints"))
        except Exception as error:
            if not is_refusal(error):
                raise
            await _undo(self._connection)
            return error
        if keep:
            await self._connection.execute(_query("end_attempt"))
        else:
            await _undo(self._connection)
        return None


async def _undo(connection: Connection) -> None:
    await connection.execute(_query("undo_attempt"))
    await connection.execute(_query("end_attempt"))


class _Same:
    """Events that belong together, since they wrote the same row."""

    def __init__(self) -> None:
        self._parents: dict[Cause, Cause] = {}

    def root(self, cause: Cause) -> Cause:
        parents = self._parents
        while (parent := parents.setdefault(cause, cause)) != cause:
            parents[cause] = parents[parent]
            cause = parents[cause]
        return cause

    def join(self, causes: Sequence[Cause]) -> None:
        for cause in causes[1:]:
            self._parents[self.root(cause)] = self.root(causes[0])


def _pieces(batch: Batch) -> Iterable[_Piece]:
    for table, changed in batch.rows:
        for key, causes in changed.causes_of(changed.rows).items():
            put = partial(_Draft.row, table=table, key=key, row=changed.rows[key])
            yield _Piece(f"a row of {table.label}", causes, put)
    for parked in batch.parked.parked:
        line, message, _ = parked
        cause = (line.agent, message.tp, message.offset)
        yield _Piece("parking an event", [cause], partial(_Draft.parked, parked=parked))
    for failed in batch.parked.failed:
        yield _Piece("a failed attempt", (), partial(_Draft.failed, failed=failed))
    for source, entries in batch.sent.items():
        for sent in entries:
            label = f"an event sent to {sent[0].topic}"
            yield _Piece(label, _listed(sent[1]), partial(_Draft.sent, source=source, sent=sent))
    for scheduled in batch.scheduled:
        label = f"an event scheduled for {scheduled[0].entry.topic}"
        yield _Piece(label, _listed(scheduled[1]), partial(_Draft.scheduled, scheduled=scheduled))


def _piece_of(letter: NewDeadLetter) -> _Piece:
    return _Piece("a dead letter", (), partial(_Draft.letter, letter=letter))


def _listed(causes: Causes) -> Sequence[Cause]:
    return causes if isinstance(causes, list) else [causes]


def _query(name: str) -> str:
    return load("redfaust.processing", name)
