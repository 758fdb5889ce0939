"""In memory what Postgres keeps: rows, positions, what is parked, given up, or sent later.

Nothing interrupts a commit, so it happens as a whole. Everything up to there (scopes, units of
work, parking, retries) is what works in production.
"""

from __future__ import annotations

import asyncio
import heapq
import secrets
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from faust.types import TP

from redfaust.brokers.broker import Broker, Outgoing, ProducerBatch, SequencedEntry
from redfaust.errors import DeadLetterResolved
from redfaust.outbox.headers import pack, unpack
from redfaust.outbox.outbox import Scheduled
from redfaust.processing.changes import LATER
from redfaust.processing.committer import Logs
from redfaust.processing.dead_letters import (
    ADDRESSEE_HEADER,
    REPLAY_HEADER,
    DeadLetter,
    DeadLetterState,
    NewDeadLetter,
    headers_of,
)
from redfaust.processing.offset_tracker import Committed, Progress
from redfaust.processing.parking import Changes, Failure, KeyQueue, Parking
from redfaust.processing.shared.message import SharedMessage, State
from redfaust.processing.unit_of_work import Batch, Rows


class MemoryState:
    """Of one application; its committer and its publisher in one."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._rows: defaultdict[object, dict[Any, tuple[int, Any]]] = defaultdict(dict)
        """By table and key: partition and encoded value."""
        self._positions: dict[TP, Committed] = {}
        self._parked: dict[int, dict[str, Any]] = {}
        """By id, which grows."""
        self._numbers = count(1)
        self._producer_id = secrets.token_hex(8)
        """Of what is replayed."""
        self._sent = count(1)
        """Its numbers."""
        self._scheduled: list[tuple[datetime, int, Outgoing]] = []
        self._news = asyncio.Event()
        self.letters: dict[int, DeadLetter] = {}

    # -- as the committer --------------------------------------------------------------------

    async def take(self, logs: Logs, parking: Parking) -> dict[TP, Committed]:
        taken = {tp: self._positions.get(tp, Committed(at)) for tp, at in logs.groups.items()}
        parking.load(self._lines(taken))
        return taken

    def _lines(self, tps: Collection[TP]) -> Iterable[Mapping[str, Any]]:
        lines: dict[object, dict[str, Any]] = {}
        now = datetime.now(UTC).timestamp()
        for number, row in self._parked.items():
            if TP(row["topic"], row["partition"]) in tps:
                first = {**row, "length": 0, "first_id": number, "due_in": row["due_at"] - now}
                key = number if row["key"] is None else row["key"]
                place = row["topic"], row["partition"], row["agent"], key
                lines.setdefault(place, first)["length"] += 1
        return lines.values()

    async def let_go(self, tps: Collection[TP]) -> None:
        """Nobody waits for them."""

    async def start_over(self) -> None:
        """What is committed stays."""

    async def verify(self) -> None:
        """It forgets nothing."""

    async def commit(self, batch: Batch, progress: Mapping[TP, Progress]) -> None:
        for table, changes in batch.rows:
            rows = self._rows[table]
            for key, (partition, value, encoded) in changes.rows.items():
                if encoded is None:
                    rows.pop(key, None)
                else:
                    rows[key] = partition, str(value) if encoded is LATER else encoded
        for letter in batch.letters:
            self.add(letter)
        self._park(batch.parked)
        for tp, (advance, ahead, applied, _) in progress.items():
            self._positions[tp] = Committed(advance.position, ahead, applied)
        self.schedule(scheduled for scheduled, _ in batch.scheduled)
        sent = [entry for entries in batch.sent.values() for entry, _ in entries]
        await self._broker.append(sent)

    def add(self, new: NewDeadLetter) -> int:
        """Keep a dead letter; its number."""
        number = next(self._numbers)
        app, agent, topic, partition, position, key, value, headers, *why = new.row()
        what = (number, app, agent, topic, partition, position, key, value, unpack(headers), *why)
        kept: tuple[Any, ...] = (*what, DeadLetterState.WAITING, datetime.now(UTC), None)
        self.letters[number] = DeadLetter(*kept)
        return number

    def _park(self, changes: Changes) -> None:
        for line, message, failure in changes.parked:
            number = next(self._numbers)
            if line.key is None:
                line.first_id = number
            self._parked[number] = {
                "id": number,
                "agent": line.agent,
                "topic": message.topic,
                "partition": message.partition,
                "position": message.offset,
                "timestamp": message.timestamp,
                "key": message.key,
                "value": message.value,
                "headers": pack(headers_of(message)),
                **_as_row(failure),
            }
        for _, number, failure in changes.failed:
            self._parked[number] |= _as_row(failure)
        for _, number in changes.done:
            del self._parked[number]

    # -- as the publisher --------------------------------------------------------------------

    async def run(self) -> None:
        """Send what is scheduled when its time has come."""
        while True:
            self._news.clear()
            due = self._scheduled[0][0] if self._scheduled else None
            pause = None if due is None else (due - datetime.now(UTC)).total_seconds()
            if pause is not None and pause <= 0:
                await self._broker.append([heapq.heappop(self._scheduled)[2]])
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def has_room(self) -> None:
        """There is always room."""

    async def drained(self) -> None:
        """What is committed is sent."""

    def schedule(self, scheduled: Iterable[Scheduled]) -> None:
        """Have entries sent when their time has come."""
        for entry, at in scheduled:
            heapq.heappush(self._scheduled, (at, next(self._numbers), entry))
        self._news.set()

    @property
    def scheduled(self) -> list[tuple[datetime, Outgoing]]:
        """What is to be sent, and when, in that order."""
        return [(at, entry) for at, _, entry in sorted(self._scheduled, key=lambda each: each[:2])]

    # -- for the rest ------------------------------------------------------------------------

    def rows_of(self, table: Rows, partitions: Collection[int]) -> list[tuple[Any, int, Any]]:
        """Key, partition and encoded value of what is committed."""
        rows = self._rows[table].items()
        return [(key, at, encoded) for key, (at, encoded) in rows if at in partitions]

    def first_of(self, line: KeyQueue, limit: int) -> list[dict[str, Any]]:
        """The first events of a line."""
        return [row for row in self._parked.values() if _is_of(row, line)][:limit]

    @property
    def parked(self) -> int:
        """How many events wait for another attempt, or behind one that does."""
        return len(self._parked)

    async def replay(self, letter: DeadLetter, value: bytes | None) -> None:
        """As :meth:`~redfaust.processing.dead_letters.DeadLetters.replay`."""
        if self.letters[letter.id].state is not DeadLetterState.WAITING:
            raise DeadLetterResolved(f"dead letter {letter.id} was replayed before")
        now = datetime.now(UTC)
        self.letters[letter.id] = replace(letter, state=DeadLetterState.REPLAYED, resolved_at=now)
        headers = [*letter.headers, (REPLAY_HEADER, str(letter.id).encode())]
        if letter.agent is not None:
            headers.append((ADDRESSEE_HEADER, f"{letter.app}/{letter.agent}".encode()))
        content = letter.value if value is None else value
        entry = Outgoing(letter.topic, content, letter.key, tuple(headers))
        await self._broker.append_once(
            [ProducerBatch(self._producer_id, [SequencedEntry(next(self._sent), entry)])]
        )

    async def commit_shared(self, finished: Iterable[SharedMessage]) -> None:
        """Commit what events of shared delivery have done."""
        done = [message.effects for message in finished if message.state is not State.LOST]
        for effects in done:
            for letter in effects.letters:
                self.add(letter)
            self.schedule(effects.scheduled)
        await self._broker.append([entry for effects in done for entry in effects.sent])


def _is_of(row: Mapping[str, Any], line: KeyQueue) -> bool:
    if line.key is None:
        return bool(row["id"] == line.first_id)
    place = row["agent"], TP(row["topic"], row["partition"]), row["key"]
    return place == (line.agent, line.tp, line.key) and row["id"] >= line.first_id


def _as_row(failure: Failure) -> dict[str, Any]:
    due_at = datetime.now(UTC).timestamp() + failure.pause
    return {"attempts": failure.attempts, "due_at": due_at}
