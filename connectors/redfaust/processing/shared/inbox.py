"""What an agent with shared delivery has had, kept with what it did.

An event may be delivered again after it was finished: a worker may die between the commit and the
acknowledger, be stopped for longer than its claims last, or a broker may have lost what it had
confirmed. So the commit of what an event has done notes the event too, and of two commits one finds
the note of the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple, Protocol

from faust.types import TP

from redfaust.postgres.database import Connection, Database, our_statements
from redfaust.postgres.queries import load
from redfaust.processing.shared.message import SharedMessage

KEPT_FOR = 600.0
"""Seconds for which a finished event is remembered at least. An event that the broker has lost is
published again from an outbox that looks back a tenth of that; a worker that was stopped in its
commit is ended by the database after a sixtieth."""

FORGOTTEN_AT_A_TIME = 10_000
"""Events."""


LONGEST_EVENT = 500
"""Characters by which an event is known as they are. An entry of their index holds 2,704 bytes."""


class Known(NamedTuple):
    """What is known of an event."""

    attempts: int
    """How often it has failed."""
    due_in: float | None
    """Seconds until it is to be tried again; ``None``: it is finished."""
    error_type: str = ""
    """The class of what it raised last, where that has just been noted."""
    error: str = ""


class Finished(NamedTuple):
    """How far an agent has finished a partition."""

    floor: int
    """Everything below is finished."""
    end: int
    """Behind the last entry, as it was when the floor was looked up or later."""


class Noting(Protocol):
    """What delivery asks of an inbox."""

    log: str

    async def look_up(
        self, messages: Collection[SharedMessage]
    ) -> Mapping[SharedMessage, Known]: ...
    async def floors(self) -> Mapping[TP, int]: ...
    async def forget(self, finished: Mapping[TP, Finished]) -> None: ...


class Inbox:
    """Of one agent, by application and name. Every method may raise DatabaseError, those that work
    within a transaction asyncpg's errors."""

    def __init__(self, database: Database, agent: str, log: str) -> None:
        self._database = database
        self._agent = agent
        self.log = log
        """The broker's identity: in another one's logs the same place means another event."""

    async def look_up(self, messages: Collection[SharedMessage]) -> Mapping[SharedMessage, Known]:
        """What is known of messages, of those of which anything is."""
        by_event = {self._event(message): message for message in messages}
        with our_statements("The inbox cannot be read"):
            rows = await self._database.fetch(_query("select_known"), self._agent, list(by_event))
        return {by_event[event]: Known(attempts, due_in) for event, attempts, due_in in rows}

    async def finish(
        self, connection: Connection, messages: Iterable[SharedMessage]
    ) -> Collection[SharedMessage]:
        """Note messages as finished, within a transaction. Returns those that were not before."""
        by_event = {self._event(message): message for message in messages}
        rows = await connection.fetch(
            _query("insert_finished"), self._agent, *self._columns(by_event)
        )
        return [by_event[row["event"]] for row in rows]

    async def fail(self, connection: Connection, failed: Mapping[SharedMessage, Known]) -> None:
        """Note how often messages have failed, within a transaction."""
        by_event = {self._event(message): message for message in failed}
        await connection.execute(
            _query("insert_failed"),
            self._agent,
            *self._columns(by_event),
            [failed[message].attempts for message in by_event.values()],
            [failed[message].due_in for message in by_event.values()],
            [failed[message].error_type for message in by_event.values()],
            [failed[message].error for message in by_event.values()],
        )

    async def floors(self) -> Mapping[TP, int]:
        """By partition of this log the position below which everything was finished, as far as that
        was noted: nothing is known of the events there any more."""
        with our_statements("The inbox cannot be read"):
            rows = await self._database.fetch(_query("select_floors"), self._agent, self.log)
        return {TP(topic, number): int(position) for topic, number, position in rows}

    async def forget(self, finished: Mapping[TP, Finished]) -> None:
        """Forget what was noted long ago of entries that nobody can get any more, and note how far
        they go."""
        tps = [tp.topic for tp in finished], [tp.partition for tp in finished]
        floors = [Decimal(each.floor) for each in finished.values()]
        ends = [Decimal(each.end) for each in finished.values()]
        with our_statements("The inbox cannot be emptied"):
            async with self._database.transaction() as connection:
                await connection.execute(
                    _query("note_floors"), self._agent, self.log, *tps, floors, ends
                )
                await connection.execute(
                    _query("delete_known"), self._agent, KEPT_FOR, FORGOTTEN_AT_A_TIME, *tps, floors
                )

    def _event(self, message: SharedMessage) -> str:
        if message.source is not None:
            producer_id, number = message.source
            event = f"{producer_id}:{number}"
        else:
            event = f"{self.log}/{message.topic}/{message.partition}/{message.offset}"
        if len(event) > LONGEST_EVENT:
            return f"sha256:{hashlib.sha256(event.encode()).hexdigest()}"
        return event

    def _columns(self, by_event: Mapping[str, SharedMessage]) -> tuple[list[object], ...]:
        messages = by_event.values()
        return (
            list(by_event),
            [message.topic for message in messages],
            [message.partition for message in messages],
            [Decimal(message.offset) for message in messages],
        )


def _query(name: str) -> str:
    return load("redfaust.processing.shared", name)
