"""From the database onto the logs: appends stored batches, and notes that they are published."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
    Set,
)
from contextlib import asynccontextmanager
from typing import Protocol, TypeAlias

from faust.types import TP

from redfaust import failpoints
from redfaust.brokers.broker import (
    EntriesRefused,
    LogsBlocked,
    LogTruncated,
    Outgoing,
    Place,
    ProducerBatch,
    Refused,
    SequencedEntry,
)
from redfaust.brokers.partitioner import partition_of_sequenced
from redfaust.errors import BrokerError, BrokerUnavailable
from redfaust.outbox.entries import BATCH_BYTES, Staged, from_rows, staged
from redfaust.outbox.producers import (
    ProducerState,
    former_producers,
    open_producers,
    raise_sequences,
)
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.queries import load

PAGE = 8
"""Batches that are read from the database at a time, unless they have more bytes than one batch may
have."""
LOOK_BACK = 10_000
"""The latest batches of a producer, which tell how far it has come. A broker loses the end of what
it had confirmed, so what is lost begins in one of them."""
LEFT_OUT = 1 << 20
"""Numbers that are left out when a producer is taken over, more than a batch has. What its owner
before may still append, stored in a database that has forgotten it since, lies below its own
then."""

LEFT_AGAIN_AFTER = 30.0
"""Seconds until batches that somebody has left are tried again, where a blocked log kept some of
them from being published. Whoever follows their producer tries it as soon as the log is mended."""

SET_BACK_AT_MOST = 16
"""How often a log may be found set back while the same batches are published. More than that is a
broker that changes all the time, and whoever publishes tries again later."""

DeadLetterEntry: TypeAlias = Callable[[Connection, Outgoing, BrokerError], Awaitable[None]]
"""Keeps an entry that the broker refused for good, in the transaction that takes it out of its
batch: it is kept once."""

logger = logging.getLogger(__name__)


class Logs(Protocol):
    """What publishing needs of a :class:`~redfaust.brokers.broker.Broker`."""

    async def append_once(
        self, batches: Sequence[ProducerBatch]
    ) -> Mapping[str, Mapping[TP, Place]]:
        """Append what the producers have not put there yet."""

    async def last_sequences(self, producer_ids: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        """The last numbers that producers have put there."""

    async def blocked(self, tps: Collection[TP]) -> Mapping[TP, str]:
        """Those of these logs that take nothing until somebody mends them, with the reasons."""

    async def topics(self) -> Mapping[str, int]:
        """All topics with their numbers of partitions."""

    async def identity(self) -> str:
        """Another one after everything was wiped."""

    async def incarnation(self) -> str:
        """Another one whenever something may have been lost."""

    async def floors(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        """The positions below which every group is done."""


class BatchPublisher:
    """Publishes batches of the producers that it follows, those of one producer in their order.

    Every method may raise what broker and database raise. Then nothing is lost, and repeating is
    harmless: whoever publishes a batch again finds the last sequences above it.

    A log that is blocked holds back the entries of a producer for it, and no others. Their batches
    stay unpublished in the database. No later entry of the producer goes to that log before them,
    also once the log is mended: :meth:`retry_held` publishes them first.
    """

    def __init__(self, database: Database, logs: Logs, *, dead_letter: DeadLetterEntry) -> None:
        self._database = database
        self._logs = logs
        self._dead_letter = dead_letter
        # By producer, its last sequences as they were last seen: one from which they are missing
        # has lost entries.
        self._followed: dict[str, dict[TP, int]] = {}
        # A last sequence must not pass what another task is about to append again.
        self._one_at_a_time = asyncio.Lock()
        self._held: dict[str, set[TP]] = {}
        """By producer, the logs for which entries are held back."""
        self._resumed: set[TP] = set()
        """Mended logs that get what was held back for them now. Until all of it is there, others of
        these entries stay held back: a higher number would make them repeats."""
        self._tried_left: dict[str, float] = {}
        """By producer of somebody else, when it was found that a log holds back what is left of
        it."""
        self.incarnation = ""
        """Of the broker, with its identity, when what was lost was last looked for. Published
        batches are noted with it."""
        self.blocked: dict[TP, str] = {}
        """The logs that hold something back, with the reasons."""
        self.published = 0
        """Entries of batches that were published as a whole since the start."""

    async def take_over(
        self, transactional_ids: Collection[str], *, leave_out: int = LEFT_OUT
    ) -> dict[str, ProducerState]:
        """Follow the producers of these transactional_ids, publish what is left of them, and say
        where each goes on: above its last sequences, by ``leave_out``."""
        async with self._one_at_a_time:
            async with self._database.transaction() as connection:
                producer_ids = await open_producers(connection, transactional_ids)
                former = await former_producers(connection, producer_ids.values())
            self.incarnation = self.incarnation or await self.find_incarnation()
            last_sequences = await self._logs.last_sequences([*producer_ids.values(), *former])
            # Before looking for what is left: who stages in between then changes this number.
            async with self._database.transaction() as connection:
                numbers = await raise_sequences(connection, last_sequences, leave_out=leave_out)
            failpoints.point("outbox.taken_over")
            for producer_id in former:
                await self._publish_left_on([producer_id])
            last_sequences = {
                producer_id: last_sequences[producer_id] for producer_id in producer_ids.values()
            }
            self._follow(last_sequences)
            await self._restore(last_sequences)
            await self._publish_unpublished(producer_ids.values())
            return {
                transactional_id: ProducerState(producer_id, numbers.get(producer_id, 0))
                for transactional_id, producer_id in producer_ids.items()
            }

    async def publish_left(self, seconds: float) -> None:
        """Publish what has been unpublished for so long, whosever it is."""
        async with self._one_at_a_time:
            async with self._database.transaction() as connection:
                rows = await connection.fetch(_query("select_left_producers"), seconds)
            now = asyncio.get_running_loop().time()
            producer_ids = [
                row["producer_id"]
                for row in rows
                if self._tried_left.get(row["producer_id"], -LEFT_AGAIN_AFTER) + LEFT_AGAIN_AFTER
                <= now
            ]
            if producer_ids:
                await self._publish_left_on(producer_ids)
                self._tried_left |= {
                    producer_id: now for producer_id in producer_ids if producer_id in self._held
                }

    async def retry_held(self) -> None:
        """Publish what was held back for logs that are mended by now."""
        async with self._one_at_a_time:
            held = set().union(*self._held.values())
            if not held:
                return
            mended = held - (await self._logs.blocked(held)).keys()
            producer_ids = [
                producer_id
                for producer_id, of_producer in self._held.items()
                if of_producer & mended
            ]
            self._resumed = mended
            try:
                if producer_ids:
                    await self._publish_left_on(producer_ids)
                self._release(producer_ids, self._resumed)
            finally:
                self._resumed = set()

    async def restore(self, producer_ids: Collection[str]) -> Collection[str]:
        """Append again what logs have lost of these producers; returns those that had lost
        something.

        The last sequences tell: a log has lost entries if the last sequence of a producer is lower
        than it was when the producer's batches were published.
        """
        async with self._one_at_a_time, self._following(producer_ids) as last_sequences:
            return await self._restore(last_sequences)

    async def find_incarnation(self) -> str:
        """Another one whenever the broker may have lost something, or was wiped."""
        return f"{await self._logs.identity()}/{await self._logs.incarnation()}"

    @property
    def followed(self) -> Collection[str]:
        """The producers whose batches are published here."""
        return list(self._followed)

    async def forget(self, producer_ids: Iterable[str]) -> None:
        """Follow them no more."""
        async with self._one_at_a_time:
            self._forget(producer_ids)

    async def publish(self, batches: Sequence[Staged]) -> None:
        """Append batches, and note that they are published; those of other producers are left
        out."""
        async with self._one_at_a_time:
            await self._publish(batches)

    async def _publish_left_on(self, producer_ids: Collection[str]) -> None:
        async with self._following(producer_ids) as last_sequences:
            await self._restore(last_sequences)
            await self._publish_unpublished(producer_ids)

    def _follow(self, last_sequences: Mapping[str, Mapping[TP, int]]) -> None:
        self._followed.update(
            {producer_id: dict(of_producer) for producer_id, of_producer in last_sequences.items()}
        )

    def _forget(self, producer_ids: Iterable[str]) -> None:
        for producer_id in producer_ids:
            self._followed.pop(producer_id, None)
            self._held.pop(producer_id, None)
            self._tried_left.pop(producer_id, None)
        held = set().union(*self._held.values())
        self.blocked = {tp: reason for tp, reason in self.blocked.items() if tp in held}

    def _hold(self, producer_id: str, tp: TP, reason: str) -> None:
        """Hold back entries of a producer for a log from now on."""
        if tp not in self.blocked:
            logger.error("%s %s takes no entries, which wait: %s", tp.topic, tp.partition, reason)
        self.blocked[tp] = reason
        self._held.setdefault(producer_id, set()).add(tp)
        self._resumed.discard(tp)

    def _release(self, producer_ids: Iterable[str], mended: Set[TP]) -> None:
        """Hold nothing of these producers back for these logs any more."""
        for producer_id in producer_ids:
            self._held[producer_id] -= mended
            if not self._held[producer_id]:
                del self._held[producer_id]
                self._tried_left.pop(producer_id, None)
        for tp in self.blocked.keys() - set().union(*self._held.values()):
            logger.warning("%s %s takes entries again", tp.topic, tp.partition)
            del self.blocked[tp]

    @asynccontextmanager
    async def _following(
        self, producer_ids: Collection[str]
    ) -> AsyncIterator[Mapping[str, Mapping[TP, int]]]:
        """Follow other producers as well, for as long as this takes; gives the last sequences of
        them all."""
        others = [producer_id for producer_id in producer_ids if producer_id not in self._followed]
        last_sequences = await self._logs.last_sequences(producer_ids)
        self._follow({producer_id: last_sequences[producer_id] for producer_id in others})
        try:
            yield last_sequences
        finally:
            for producer_id in others:  # what is held back of them is remembered
                self._followed.pop(producer_id, None)

    async def _restore(self, last_sequences: Mapping[str, Mapping[TP, int]]) -> Collection[str]:
        """See :meth:`restore`, for producers that are followed and have these last sequences
        now."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_query("select_reached"), list(last_sequences), LOOK_BACK)
        reached = [
            (
                row["producer_id"],
                TP(row["topic"], row["partition"]),
                row["last_sequence"],
                row["incarnations"],
            )
            for row in rows
        ]
        reached += [
            (producer_id, *seen, [self.incarnation])
            for producer_id in last_sequences
            for seen in self._followed[producer_id].items()
        ]
        behind = []
        published: dict[TP, set[str | None]] = {}
        for producer_id, tp, last_sequence, incarnations in reached:
            if (left := last_sequences[producer_id].get(tp, 0)) < last_sequence:
                behind.append((producer_id, tp, left))
                published.setdefault(tp, set()).update(incarnations)
        if not behind:
            return ()
        lost, blocked = await self.find_lost(published)
        begin: dict[str, int] = {}
        for producer_id, tp, left in behind:
            if tp in blocked:
                self._hold(producer_id, tp, blocked[tp])
            elif tp in lost:
                begin[producer_id] = min(left, begin.get(producer_id, left))
        self._follow({producer_id: last_sequences[producer_id] for producer_id in begin})
        for producer_id, number in begin.items():
            await self._append_again(producer_id, number)
        return begin

    async def find_lost(
        self, published: Mapping[TP, Set[str | None]]
    ) -> tuple[Set[TP], Mapping[TP, str]]:
        """Of logs in which last sequences are missing, those that have lost entries, and those that
        are blocked, with the reasons: of them nobody can tell. Each comes with the incarnations
        under which entries were published there.

        A log that its topic does not list any more, and that groups have joined, has lost nothing:
        what lies there would be processed a second time. Nor has one whose topic was deleted, as
        that of the answers to a process that has ended.
        """
        tps = published.keys()
        blocked = await self._logs.blocked(tps)
        partitions = await self._logs.topics()
        missing = {tp for tp in tps if tp.topic not in partitions}
        # Later: whoever is wiped in between has another one then.
        now = await self.find_incarnation() if missing else ""
        deleted = {tp for tp in missing if published[tp] == {now}}
        unlisted = {tp for tp in tps if tp.partition >= partitions.get(tp.topic, tp.partition + 1)}
        joined = await self._logs.floors(unlisted) if unlisted else {}
        return tps - blocked.keys() - joined.keys() - deleted, blocked

    async def _publish_unpublished(self, producer_ids: Collection[str]) -> None:
        behind = "", 0
        while batches := await self._fetch(
            "select_unpublished", list(producer_ids), *behind, PAGE, BATCH_BYTES
        ):
            await self._publish(batches)
            behind = batches[-1].producer_id, batches[-1].last_sequence

    async def _append_again(self, producer_id: str, last_sequence: int) -> None:
        """All that is kept of a producer behind this number; what is on its logs is skipped."""
        logger.warning(
            "The broker has lost what followed %s on producer %s", last_sequence, producer_id
        )
        while batches := await self._fetch(
            "select_kept", producer_id, last_sequence, PAGE, BATCH_BYTES
        ):
            await self._publish(batches)
            last_sequence = batches[-1].last_sequence
        failpoints.point("outbox.restored")

    async def _publish(self, batches: Sequence[Staged]) -> None:
        set_back = 0
        while True:
            batches = [batch for batch in batches if batch.producer_id in self._followed]
            free, whole = await self._without_held(batches)
            try:
                places = await self._append(free)
                break
            except EntriesRefused as refusal:
                batches = await self._without(batches, refusal.refused)
            except LogTruncated as loss:
                set_back += 1
                if set_back > SET_BACK_AT_MOST:
                    raise BrokerUnavailable(f"{loss}: again and again") from loss
                await self._restore(await self._logs.last_sequences(loss.producer_ids))
            except LogsBlocked as stop:
                if not await self._hold_all(batches, stop.blocked):
                    raise  # the topics were altered meanwhile
        if not batches:
            return
        failpoints.point("outbox.appended")
        await self._note_published(whole, places)
        self.published += sum(len(batch.entries) for batch in whole)
        failpoints.point("outbox.published")

    async def _hold_all(self, batches: Iterable[Staged], blocked: Mapping[TP, str]) -> bool:
        """Hold back entries for logs that are blocked. Returns False if there are none."""
        partitions = await self._logs.topics()
        held = [
            (batch.producer_id, tp)
            for batch in batches
            for tp in blocked
            if any(_is_of(each, {tp}, partitions) for each in batch.entries)
        ]
        for producer_id, tp in held:
            self._hold(producer_id, tp, blocked[tp])
        return bool(held)

    async def _without_held(
        self, batches: Sequence[Staged]
    ) -> tuple[Sequence[Staged], Sequence[Staged]]:
        """The batches without entries that are held back, and those that are whole."""
        if not any(batch.producer_id in self._held for batch in batches):
            return batches, batches
        partitions = await self._logs.topics()
        free, whole = [], []
        for batch in batches:
            held = self._held.get(batch.producer_id, set()) - self._resumed
            entries = tuple(each for each in batch.entries if not _is_of(each, held, partitions))
            free.append(batch._replace(entries=entries))
            if len(entries) == len(batch.entries):
                whole.append(batch)
        return free, whole

    async def _append(self, batches: Iterable[Staged]) -> Mapping[str, Mapping[TP, Place]]:
        entries: dict[str, list[SequencedEntry]] = {}
        for batch in batches:
            entries.setdefault(batch.producer_id, []).extend(batch.entries)
        places = await self._logs.append_once(
            [
                ProducerBatch(producer_id, of_producer, self._followed[producer_id])
                for producer_id, of_producer in entries.items()
            ]
        )
        for producer_id, of_producer in places.items():
            self._followed[producer_id].update(
                {tp: place.last_sequence for tp, place in of_producer.items()}
            )
        return places

    async def _without(self, batches: Iterable[Staged], refused: Iterable[Refused]) -> list[Staged]:
        """The batches without refused entries, which are set aside."""
        errors: dict[str, dict[int, BrokerError]] = {}
        for producer_id, number, error in refused:
            errors.setdefault(producer_id, {})[number] = error
        kept = []
        for batch in batches:
            refusals = errors.get(batch.producer_id, {})
            entries = tuple(each for each in batch.entries if each.number not in refusals)
            if len(entries) < len(batch.entries):
                await self._dead_letter_from(batch, refusals)
                failpoints.point("outbox.dead_lettered")
            kept.append(batch._replace(entries=entries))
        return kept

    async def _dead_letter_from(self, batch: Staged, errors: Mapping[int, BrokerError]) -> None:
        passed = await self._passed_places(batch)
        async with self._database.transaction() as connection:
            # Somebody else may publish the same batch: whoever comes second finds nothing there.
            stored = await connection.fetchval(
                _query("lock_entries"), batch.producer_id, batch.last_sequence
            )
            for number, entry in from_rows(stored or ()):
                if number not in errors:
                    continue
                if _is_passed(entry, passed):
                    logger.warning(
                        "An event of %s that every group has passed cannot be appended again: %s",
                        entry.topic,
                        errors[number],
                    )
                else:
                    await self._dead_letter(connection, entry, errors[number])
            await connection.execute(
                _query("drop_entries"), batch.producer_id, batch.last_sequence, list(errors)
            )

    async def _passed_places(self, batch: Staged) -> Mapping[TP, bool]:
        """Where a batch was published before, and whether every group has passed it there."""
        rows = await self._database.fetch(
            _query("select_places"), batch.producer_id, batch.last_sequence
        )
        places = {TP(topic, number): int(at) for topic, number, _, at in rows}
        floors = await self._logs.floors(places) if places else {}
        return {tp: floors.get(tp, 0) >= position for tp, position in places.items()}

    async def _note_published(
        self, batches: Sequence[Staged], places: Mapping[str, Mapping[TP, Place]]
    ) -> None:
        rows = [
            (producer_id, tp.topic, tp.partition, last_sequence, position)
            for producer_id, of_producer in places.items()
            for tp, (last_sequence, position) in of_producer.items()
        ]
        if not batches:
            return
        columns = map(list, zip(*rows, strict=True)) if rows else ([],) * 5
        await self._database.fetch(
            _query("note_published"),
            [batch.producer_id for batch in batches],
            [batch.last_sequence for batch in batches],
            *columns,
            self.incarnation,
        )

    async def _fetch(self, query: str, *arguments: object) -> list[Staged]:
        return staged(await self._database.fetch(_query(query), *arguments))


def _target(sequenced: SequencedEntry, partitions: Mapping[str, int]) -> TP | None:
    """The log that an entry is for; ``None`` if its topic is not known yet."""
    number, entry = sequenced
    if entry.partition is not None:
        return TP(entry.topic, entry.partition)
    if entry.topic not in partitions:
        return None
    count = partitions[entry.topic]
    return TP(entry.topic, partition_of_sequenced(entry.key, number, count))


def _is_passed(entry: Outgoing, passed: Mapping[TP, bool]) -> bool:
    """Returns True if an entry was published, and every group has passed it."""
    of_entry = [
        is_passed
        for tp, is_passed in passed.items()
        if tp.topic == entry.topic and entry.partition in (None, tp.partition)
    ]
    return bool(of_entry) and all(of_entry)


def _is_of(sequenced: SequencedEntry, logs: Set[TP], partitions: Mapping[str, int]) -> bool:
    """Whether an entry is for one of these logs. While the catalog has lost its topic it may be for
    any of that topic's: what goes there before it would make a repeat of it."""
    target = _target(sequenced, partitions)
    if target is None:
        return any(tp.topic == sequenced.entry.topic for tp in logs)
    return target in logs


def _query(name: str) -> str:
    return load("redfaust.outbox", name)
