"""Events that an agent could not finish, kept with their bytes until somebody decides.

::

    waiting ──replay──▶ replayed
       └─────discard──▶ discarded

Nothing leads out of ``replayed`` and ``discarded``: an event that fails again after its replay is
a new dead letter, whose header ``redfaust-replay-of`` names the old one.

A replayed event lies on its topic for all to see, and is handed to the agent that gave it up, which
its header ``redfaust-replay-for`` names: the others have processed it.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, cast

import asyncpg
from faust.types import AppT, Message
from pydantic import ValidationError

from redfaust.brokers.broker import Headers
from redfaust.brokers.names import LONGEST_TOPIC
from redfaust.errors import (
    ContentRefused,
    DeadLetterError,
    DeadLetterResolved,
    DeadLetterUnknown,
)
from redfaust.outbox.headers import pack, storable, unpack
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.queries import load
from redfaust.processing.redaction import preview
from redfaust.processing.typed_values import problems_of

if TYPE_CHECKING:
    from redfaust.processing.log_message import LogMessage
    from redfaust.processing.shared.message import SharedMessage

REPLAY_HEADER = "redfaust-replay-of"
"""Header of a replayed event: the number of its dead letter."""
ADDRESSEE_HEADER = "redfaust-replay-for"
"""Header of a replayed event: application and agent that it is for, with a slash between them. It
counts in what the outbox has published alone: no other producer hides an event from an agent."""
HEADING_LENGTH = 4_096
"""Bytes, or characters, that are read of what may be long where letters are listed."""
NAMES_SHOWN = 20
"""Agents, topics and classes of errors that are named to somebody who has asked for another."""
TEXT_LIMIT = 65_536
"""Characters kept of an error, and of the end of its traceback, where the cause is."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
LINE_LIMIT = 1_000
"""Characters of an error in a line of a log."""


class DeadLetterState(Enum):
    """Where a dead letter is in its life; see the drawing above."""

    WAITING = "waiting"
    REPLAYED = "replayed"
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """An event that failed, as the agent's machinery has it in hand."""

    app: str
    agent: str | None
    """``None``: it failed before it reached an agent, for instance while being decoded."""
    topic: str
    partition: int
    position: int
    """The entry's offset."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    error: BaseException
    attempts: int

    @property
    def is_short(self) -> bool:
        """Whether it leaves out all that it can."""
        return self.key is None and self.value is None and not self.headers

    def shortened(self, reason: Exception) -> NewDeadLetter:
        """The letter without what it is about, of which Postgres refuses something; its error says
        so. Where the event lay it still says."""
        sizes = f"{len(self.key or b'')} bytes of key, {len(self.value or b'')} of value"
        error = ContentRefused(
            f"{text_of(self.error)}; {sizes} and {len(self.headers)} headers could not be kept "
            f"({text_of(reason)})"
        )
        error.__cause__ = self.error
        return replace(self, key=None, value=None, headers=(), error=error)

    def row(self) -> tuple[object, ...]:
        """The columns in the order of ``insert_dead_letter.sql``; texts as Postgres takes them."""
        correlation_id = dict(self.headers).get("correlation_id")
        return (
            storable(self.app),
            None if self.agent is None else storable(self.agent),
            # A longer one is nobody's, and would not go into the index.
            storable(self.topic)[:LONGEST_TOPIC],
            self.partition,
            self.position,
            self.key,
            self.value,
            pack(self.headers),
            name_of(self.error),
            text_of(self.error),
            storable(_traceback(self.error)[-TEXT_LIMIT:]),
            self.attempts,
            None if correlation_id is None else _text_of_header(correlation_id),
        )


def letter_about(
    app: AppT, message: Message, error: Exception, *, agent: str, attempts: int
) -> NewDeadLetter:
    """What to keep of an event that was read and failed as often as that."""
    return NewDeadLetter(
        app=app.conf.id,
        agent=agent,
        topic=message.topic,
        partition=message.partition,
        position=message.offset,
        key=message.key,
        value=message.value,
        headers=headers_of(message),
        error=error,
        attempts=attempts,
    )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed event as it is kept: its bytes exactly, and why it failed."""

    id: int
    app: str
    agent: str | None
    topic: str
    partition: int
    position: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    error_type: str
    error: str
    traceback: str
    attempts: int
    correlation_id: str | None
    state: DeadLetterState
    created_at: datetime
    resolved_at: datetime | None

    @property
    def size(self) -> int | None:
        """Bytes of the value."""
        return None if self.value is None else len(self.value)

    @property
    def preview(self) -> str:
        """The value, masked and shortened, to be shown to people."""
        return preview(self.value)


@dataclass(frozen=True, slots=True)
class DeadLetterHeading:
    """A dead letter as it stands in a list: of what may be long only the beginning was read."""

    id: int
    app: str
    agent: str | None
    topic: str
    partition: int
    position: int
    key: bytes | None
    """Its first :data:`HEADING_LENGTH` bytes, like those of ``value`` and the texts."""
    value: bytes | None
    size: int | None
    """Bytes of the whole value."""
    headers: Headers
    """None where they are long."""
    error_type: str
    error: str
    attempts: int
    correlation_id: str | None
    state: DeadLetterState
    created_at: datetime
    resolved_at: datetime | None

    @property
    def preview(self) -> str:
        """The value, masked and shortened, to be shown to people."""
        return preview(self.value)


class DeadLetters:
    """The table of dead letters. Every method may raise ``DatabaseUnavailable``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, new: NewDeadLetter, *, connection: Connection | None = None) -> int:
        """Keep a failed event, in a transaction that is open if it is given; return its number."""
        if connection is None:
            async with self._database.transaction() as own:
                return await self.add(new, connection=own)
        number: int = await connection.fetchval(_query("insert_dead_letter"), *new.row())
        return number

    async def list(
        self,
        *,
        app: str | None = None,
        topic: str | None = None,
        agent: str | None = None,
        error_type: str | None = None,
        state: DeadLetterState | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Sequence[DeadLetterHeading]:
        """The newest first; ``after`` a number, those that are older."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                _query("select_dead_letters"),
                app,
                topic,
                agent,
                error_type,
                state and state.value,
                after,
                limit,
                HEADING_LENGTH,
            )
        return [_heading(row) for row in rows]

    async def heading(self, number: int) -> DeadLetterHeading:
        """One dead letter, without what is long. Raises
        :class:`~redfaust.errors.DeadLetterUnknown`."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                _query("select_dead_letter_heading"), number, HEADING_LENGTH
            )
        if row is None:
            raise _unknown(number)
        return _heading(row)

    async def names(self, app: str | None = None) -> Mapping[str, Mapping[str, int]]:
        """How many letters wait by ``agent``, ``topic`` and ``error``, the commonest first."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_query("select_dead_letter_names"), app, NAMES_SHOWN)
        found: dict[str, dict[str, int]] = {}
        for row in rows:
            found.setdefault(row["what"], {})[row["name"]] = row["letters"]
        return found

    async def waiting(
        self,
        *,
        app: str | None = None,
        topic: str | None = None,
        agent: str | None = None,
        error_type: str | None = None,
    ) -> Sequence[int]:
        """Numbers of all that wait, the oldest first: the order in which to replay them."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                _query("select_waiting_ids"), app, topic, agent, error_type
            )
        return [row["id"] for row in rows]

    async def get(self, number: int) -> DeadLetter:
        """One dead letter. Raises :class:`~redfaust.errors.DeadLetterUnknown`."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(_query("select_dead_letter"), number)
        if row is None:
            raise _unknown(number)
        return _letter(row)

    async def replay(self, numbers: Sequence[int], *, value: bytes | None = None) -> None:
        """Put events back onto their topics, in the order of their numbers.

        They go through the outbox in the transaction that resolves them, with their keys and
        headers, ``redfaust-replay-of`` and, if an agent gave them up, ``redfaust-replay-for``. One
        event may be given another value. All or none: raises
        :class:`~redfaust.errors.DeadLetterUnknown` or
        :class:`~redfaust.errors.DeadLetterResolved`, or
        :class:`~redfaust.errors.DeadLetterError` where the outbox cannot take one, and then
        nothing has changed.
        """
        if value is not None and len(numbers) != 1:
            raise ValueError("another value can be given to one dead letter at a time")
        async with self._database.transaction() as connection:
            await _lock_waiting(connection, numbers)
            try:
                await connection.execute(
                    _query("publish_dead_letters"),
                    numbers,
                    value is not None,
                    value,
                    REPLAY_HEADER,
                    ADDRESSEE_HEADER,
                )
            except asyncpg.CheckViolationError as error:
                raise DeadLetterError(
                    f"the outbox takes no such event ({error.constraint_name}), so it cannot be "
                    "replayed: publish what is in it as another one, and discard it"
                ) from error
            await connection.execute(
                _query("resolve_dead_letters"), numbers, DeadLetterState.REPLAYED.value
            )

    async def discard(self, numbers: Sequence[int]) -> None:
        """Give events up. They stay to be read; raises as :meth:`replay` does."""
        async with self._database.transaction() as connection:
            await _lock_waiting(connection, numbers)
            await connection.execute(
                _query("resolve_dead_letters"), numbers, DeadLetterState.DISCARDED.value
            )


async def _lock_waiting(connection: Connection, numbers: Sequence[int]) -> None:
    rows = await connection.fetch(_query("lock_dead_letters"), numbers)
    states = {row["id"]: DeadLetterState(row["state"]) for row in rows}
    for number in numbers:
        if number not in states:
            raise _unknown(number)
        if states[number] is not DeadLetterState.WAITING:
            raise DeadLetterResolved(
                f"dead letter {number} is {states[number].value} already: "
                "only those that wait can be replayed or discarded"
            )


def _unknown(number: int) -> DeadLetterUnknown:
    return DeadLetterUnknown(f"there is no dead letter {number}: list shows those there are")


def _letter(row: asyncpg.Record) -> DeadLetter:
    return DeadLetter(
        **{
            **row,
            "position": int(row["position"]),
            "headers": unpack(row["headers"]),
            "state": DeadLetterState(row["state"]),
        }
    )


def _heading(row: asyncpg.Record) -> DeadLetterHeading:
    return DeadLetterHeading(
        **{
            **row,
            "position": int(row["position"]),
            "headers": unpack(row["headers"]),
            "state": DeadLetterState(row["state"]),
        }
    )


def addressee_of(message: LogMessage | SharedMessage) -> bytes | None:
    """What the header of a replayed event says; ``None`` where the event is for all."""
    if message.source is None:
        return None
    headers = cast("Headers", message.headers or ())
    return dict(headers).get(ADDRESSEE_HEADER)


def excused(app: str, agents: Collection[str], addressee: bytes) -> Collection[str]:
    """Those of the agents that read a topic for which an event was not replayed.

    ``addressee`` is what its header says. Where that agent is gone, the event is for all.
    """
    name, _, agent = addressee.decode("utf-8", "replace").partition("/")
    if name != app:
        return agents
    return [other for other in agents if other != agent] if agent in agents else ()


def headers_of(message: Message) -> Headers:
    headers = message.headers or {}
    pairs = headers.items() if hasattr(headers, "items") else headers
    return tuple((str(name), value) for name, value in pairs)


def name_of(error: BaseException) -> str:
    """The class of an error, with its module unless that is Python's own."""
    kind = type(error)
    return storable(f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins."))


def text_of(error: BaseException) -> str:
    """What an error says, as far as it is kept, in a form that Postgres takes."""
    return storable(_text(error)[:TEXT_LIMIT])


def _text_of_header(content: bytes) -> str:
    return storable(content[:TEXT_LIMIT].decode("utf-8", "replace"))


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # of a cause, perhaps, or of a note
        return "".join(traceback.format_tb(error.__traceback__))


def line_of(error: BaseException) -> str:
    """What an error says, in one line of a log that nothing in it can begin anew."""
    text = f"{type(error).__name__}: {text_of(error)[:LINE_LIMIT]}"
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def _text(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return problems_of(error)
    try:
        return str(error)
    except Exception as broken:  # the event must be kept whatever its error does
        return f"({type(error).__name__} cannot be shown: {type(broken).__name__})"


def _query(name: str) -> str:
    return load("redfaust.processing", name)
