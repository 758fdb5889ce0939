"""One Postgres transaction for all that a batch of finished events has done.

Partitions are *taken* before they are worked on, which raises their epoch. A commit names the
epochs that it was made under; where somebody has taken a partition since, nothing of it happens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg
from faust.types import TP

from redfaust import failpoints
from redfaust.errors import (
    DatabaseError,
    DatabaseRewound,
    DatabaseUnavailable,
    Fenced,
    PartitionsDiffer,
    ProducerFenced,
    RedfaustError,
    WrongPartition,
)
from redfaust.outbox.entries import Staged
from redfaust.outbox.outbox import schedule
from redfaust.outbox.producers import ProducerState, stage
from redfaust.outbox.publisher import Publisher
from redfaust.postgres.database import Connection, Database, our_statements
from redfaust.postgres.driver_errors import is_refusal
from redfaust.postgres.queries import load
from redfaust.printable import printable
from redfaust.processing import parked_rows
from redfaust.processing.changes import Cause
from redfaust.processing.dead_letters import DeadLetters
from redfaust.processing.offset_tracker import Committed, Identity, Progress, Readers
from redfaust.processing.parking import Parking
from redfaust.processing.refusals import EventsRefused, Refusal, find_refused, parts_of
from redfaust.processing.unit_of_work import Batch
from redfaust.processing.waiting import Waiting

RETRY_EVERY = 0.5
"""Seconds between two attempts while the database is away."""

logger = logging.getLogger(__name__)

BEGINNING = 1
"""Positions up to this one are before every entry, in every broker's logs."""


class Logs(NamedTuple):
    """The partitions of a broker that are to be taken."""

    identity: str
    incarnation: str
    """See :class:`~redfaust.brokers.broker.Broker` of both."""
    groups: Mapping[TP, int]
    """Where the application's group stands: there a partition begins that has no position yet."""
    ends: Mapping[TP, int]
    """The position behind the last entry."""
    partitions: Mapping[str, int]
    """How many each topic has, as far as this worker has heard."""


class _Held(NamedTuple):
    """A partition as the database has it, unless somebody else has taken it or it was set back."""

    epoch: int
    batch: UUID | None
    """The last one that was committed of it."""


class Committer:
    """Commits for one application, under the epochs of the partitions that it has taken.

    A commit builds on the one before, so the database has to have that still.
    """

    def __init__(
        self,
        app_id: str,
        database: Database,
        dead_letters: DeadLetters,
        publisher: Publisher,
        waiting: Waiting,
    ) -> None:
        self._waiting = waiting
        self._app_id = app_id
        self._publisher = publisher
        self._producer_states: dict[TP, ProducerState] = {}
        self._database = database
        self._dead_letters = dead_letters
        self._held: dict[TP, _Held] = {}
        self._settled = True
        """Whether it is known what became of the last commit."""

    async def take(self, logs: Logs, parking: Parking) -> dict[TP, Committed]:
        """Take the partitions of these logs, beside those that were taken before.

        Loads the parking with what is parked of them, and returns where to continue. Raises
        DatabaseUnavailable and BrokerUnavailable, and PartitionsDiffer if rows of tables lie in
        partitions that this worker does not know.
        """
        groups = logs.groups
        with our_statements("The partitions cannot be taken"):
            rows, lines = await self._raise_epochs(logs)
        failpoints.point("commit.taken")
        transactional_ids = {self._transactional_id(tp): tp for tp in groups}
        with our_statements("The producers of the partitions cannot be taken over"):
            producers = await self._publisher.take_over(transactional_ids)
        self._producer_states |= {
            transactional_ids[transactional_id]: producer
            for transactional_id, producer in producers.items()
        }
        taken = {}
        for row in rows:
            tp = TP(row["topic"], row["partition"])
            self._held[tp] = _Held(row["epoch"], row["batch"])
            position, passed = int(row["position"]), int(row["passed"])
            taken[tp] = Committed(position, _decode_ahead(row["ahead"]), row["applied"], passed)
            if (row["position_before"] or 0) > logs.ends[tp]:
                logger.warning(
                    "Partition %s of %s ends before what was read of it: it was deleted and made "
                    "again, or set back. It goes on at %s",
                    tp.partition,
                    printable(tp.topic),
                    "its beginning" if position <= BEGINNING else position,
                )
        parking.load(lines)  # nothing fails any more: it must not be loaded twice
        return taken

    async def _raise_epochs(
        self, logs: Logs
    ) -> tuple[Sequence[asyncpg.Record], Sequence[asyncpg.Record]]:
        """The positions, and the lines of parked events."""
        groups, ends = logs.groups, logs.ends
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                _query("take_partitions"),
                self._app_id,
                logs.identity,
                logs.incarnation,
                [tp.topic for tp in groups],
                [tp.partition for tp in groups],
                [Decimal(position) for position in groups.values()],
                [Decimal(ends[tp]) for tp in groups],
            )
            known = await known_partitions(connection, self._app_id, logs.partitions)
            for topic, count in known.items():
                if count > logs.partitions[topic]:
                    raise PartitionsDiffer(
                        f"topic {topic} has {count} partitions, and not {logs.partitions[topic]}, "
                        "since it was given more: start again. If that does not help, they were "
                        f"added by halves: have it done again, with {count} partitions"
                    )
            return rows, await parked_rows.select_lines(connection, self._app_id, groups.keys())

    async def let_go(self, tps: Collection[TP]) -> None:
        """Give up partitions. What they have sent and is not published is left to their heir."""
        for tp in tps:
            self._held.pop(tp, None)
            self._producer_states.pop(tp, None)
        await self._publisher.let_go([self._transactional_id(tp) for tp in tps])

    async def start_over(self) -> None:
        """Give up all partitions."""
        await self.let_go(list(self._held.keys() | self._producer_states.keys()))
        self._settled = True

    def _transactional_id(self, tp: TP) -> str:
        return f"{self._app_id}/{tp.topic}/{tp.partition}"

    async def commit(self, batch: Batch, progress: Mapping[TP, Progress]) -> None:
        """Write rows of all tables, dead letters, what is sent, and progress, or nothing of it.

        While the database is away this waits. A commit whose answer was lost may have happened;
        that is looked up before it is repeated. So if this is cancelled nobody knows, and what
        was committed has to be read again.

        Raises :class:`Fenced`, :class:`DatabaseRewound`,
        :class:`~redfaust.processing.refusals.EventsRefused`, or DatabaseError if it is the
        database that must be mended; then nothing has happened.
        """
        self._settled = False
        # As of now: should partitions be taken anew meanwhile, this commit belongs to the past.
        held = {tp: self._held.get(tp, _Held(0, None)) for tp in progress}
        try:
            staged = await self._commit(batch, progress, held)
        except RedfaustError:
            self._settled = True
            raise
        failpoints.point("commit.committed")
        self._held |= {
            tp: known._replace(batch=batch.number)
            for tp, known in held.items()
            if self._held.get(tp) == known
        }
        self._settled = True
        self._producer_states = {
            tp: _moved(producer, staged) for tp, producer in self._producer_states.items()
        }
        self._publisher.put(staged)

    async def _commit(
        self, batch: Batch, progress: Mapping[TP, Progress], held: Mapping[TP, _Held]
    ) -> Sequence[Staged]:
        in_doubt = False
        staged: Sequence[Staged] = ()
        while True:
            try:
                async with self._database.transaction() as connection:
                    if not (in_doubt and await self._has(connection, batch)):
                        staged = await self._write(connection, batch, progress, held)
                        failpoints.point("commit.written")
                return staged
            except DatabaseUnavailable as error:
                in_doubt = True
                self._waiting.because("The commit waits", error)
                await asyncio.sleep(RETRY_EVERY)
            except ProducerFenced as error:
                raise Fenced(str(error)) from error
            except (asyncpg.PostgresError, UnicodeEncodeError, WrongPartition) as error:
                if not is_refusal(error):
                    raise _not_written(error) from error
                await self._deal_with(batch, error)

    async def verify(self) -> None:
        """Find out whether the database has what was committed last, though nothing is to be
        committed now. Raises :class:`DatabaseRewound`, or DatabaseError if the database cannot
        tell."""
        if not self._settled:
            return
        held = dict(self._held)
        with our_statements("The positions cannot be read"):
            async with self._database.transaction() as connection:
                forgotten = await self._forgotten(connection, held)
        if forgotten and self._settled and held == self._held:
            raise _set_back(forgotten)

    async def _forgotten(
        self, connection: Connection, held: Mapping[TP, _Held], now: UUID | None = None
    ) -> list[TP]:
        """Partitions of which the database has an older state. ``now`` is the batch that this very
        transaction has written, where it could."""
        rows = await connection.fetch(_query("select_held"), self._app_id, *_columns(held))
        there = {TP(topic, number): _Held(epoch, batch) for topic, number, epoch, batch in rows}
        return [
            tp
            for tp, known in held.items()
            if (found := there.get(tp)) is None
            or found.epoch < known.epoch
            or (found.epoch == known.epoch and found.batch not in {known.batch, now or known.batch})
        ]

    async def _has(self, connection: Connection, batch: Batch) -> bool:
        return bool(await connection.fetchval(_query("find_batch"), self._app_id, batch.number))

    async def _write(
        self,
        connection: Connection,
        batch: Batch,
        progress: Mapping[TP, Progress],
        held: Mapping[TP, _Held],
    ) -> Sequence[Staged]:
        # First, since it also keeps everybody else from taking these partitions until the end.
        await self._advance(connection, batch, progress, held)
        failpoints.point("commit.fenced")
        return await self._write_effects(connection, batch, self._producer_states)

    async def _write_effects(
        self, connection: Connection, batch: Batch, producers: Mapping[TP, ProducerState]
    ) -> Sequence[Staged]:
        for table, changed in batch.rows:
            await table.write(connection, changed.rows)
        for letter in batch.letters:
            await self._dead_letters.add(letter, connection=connection)
        await parked_rows.write(connection, self._app_id, batch.parked)
        if batch.scheduled:
            await schedule(connection, [scheduled for scheduled, _ in batch.scheduled])
        sent = {
            producers[tp].id: (producers[tp].last_sequence, [entry for entry, _ in entries])
            for tp, entries in batch.sent.items()
        }
        return await stage(connection, sent)

    async def _advance(
        self,
        connection: Connection,
        batch: Batch,
        progress: Mapping[TP, Progress],
        held: Mapping[TP, _Held],
    ) -> None:
        done = await connection.execute(
            _query("advance_positions"),
            self._app_id,
            *_columns(progress),
            [each.epoch for each in held.values()],
            [each.batch for each in held.values()],
            [Decimal(p.advance.position) for p in progress.values()],
            [_encode_ahead(p.ahead) for p in progress.values()],
            [dict(p.applied) for p in progress.values()],
            batch.number,
        )
        if done != f"UPDATE {len(progress)}":
            if forgotten := await self._forgotten(connection, held, batch.number):
                raise _set_back(forgotten)
            raise Fenced(
                "another worker has taken over partitions of this one, which outlived its lease: "
                "what was not committed is done again by whoever owns them now"
            )

    async def _deal_with(self, batch: Batch, error: Exception) -> None:
        """Find what cannot be stored. On return the commit may be tried again.

        Raises EventsRefused, or DatabaseError if no event is to blame.
        """
        parts = parts_of(batch)
        async with self._database.transaction() as connection:
            producers = dict(self._producer_states)

            async def write(some: Batch) -> None:
                nonlocal producers
                staged = await self._write_effects(connection, some, producers)
                producers = {tp: _moved(producer, staged) for tp, producer in producers.items()}

            refused = await find_refused(connection, parts, write)
        causes: dict[Cause, tuple[str, Exception]] = {}
        for part, reason in refused:
            causes |= dict.fromkeys(part.causes, (part.label, reason))
        if causes:
            raise EventsRefused(causes)
        if not self._shorten_letters(batch, refused):
            raise _not_written(error) from error

    def _shorten_letters(self, batch: Batch, refused: Sequence[Refusal]) -> bool:
        """Have dead letters that cannot be stored leave out what they are about; whether that helps
        any of them."""
        shorter = {
            id(part.letter): part.letter.shortened(reason)
            for part, reason in refused
            if part.letter is not None and not part.letter.is_short
        }
        batch.letters = [shorter.get(id(letter), letter) for letter in batch.letters]
        return bool(shorter)


def _not_written(error: Exception) -> DatabaseError:
    return DatabaseError(
        f"The tables cannot be written ({type(error).__name__}: {error}), and no single event is "
        "to blame: mend that in Postgres, the commit is tried again"
    )


async def known_partitions(
    connection: Connection, app_id: str, topics: Iterable[str]
) -> dict[str, int]:
    """How many partitions topics have, as far as the database knows; others are missing."""
    rows = await connection.fetch(_query("select_partitions"), app_id, list(topics))
    return {row["topic"]: row["partitions"] for row in rows}


def _columns(tps: Iterable[TP]) -> tuple[list[str], list[int]]:
    tps = list(tps)
    return [tp.topic for tp in tps], [tp.partition for tp in tps]


def _set_back(forgotten: Sequence[TP]) -> DatabaseRewound:
    return DatabaseRewound(
        f"the database has forgotten commits of {len(forgotten)} partitions, {forgotten[0].topic} "
        f"{forgotten[0].partition} among them: it was restored, or a standby that lacked them was "
        "promoted. Going on from what it has: events are processed again, and what they had sent "
        "comes twice"
    )


def _moved(producer: ProducerState, staged: Sequence[Staged]) -> ProducerState:
    last = [batch.last_sequence for batch in staged if batch.producer_id == producer.id]
    return producer._replace(last_sequence=last[-1]) if last else producer


def _encode_ahead(ahead: Mapping[Identity, Readers]) -> dict[str, list[str]]:
    # Offsets are larger than what JSON's numbers are good for.
    return {
        str(known) if isinstance(known, int) else f"{known[0]}:{known[1]}": sorted(readers)
        for known, readers in ahead.items()
    }


def _decode_ahead(ahead: Mapping[str, list[str]]) -> dict[Identity, Readers]:
    return {_identity(text): frozenset(readers) for text, readers in ahead.items()}


def _identity(text: str) -> Identity:
    producer_id, colon, number = text.rpartition(":")
    return (producer_id, int(number)) if colon else int(text)


def _query(name: str) -> str:
    return load("redfaust.processing", name)
