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
    LaneBatch,
    LogsBlocked,
    LogTruncated,
    Numbered,
    Outgoing,
    Place,
    Refused,
)
from redfaust.brokers.partitioner import partition_of_numbered
from redfaust.errors import BrokerError, BrokerUnavailable
from redfaust.outbox.entries import BATCH_BYTES, Staged, from_rows, staged
from redfaust.outbox.lanes import Lane, former_lanes, open_lanes, raise_lanes
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.queries import load

PAGE = 8
"""Batches that are read from the database at a time, unless they have more bytes than one batch may
have."""
LOOK_BACK = 10_000
"""The latest batches of a lane, which tell how far it has come. A broker loses the end of what it
had confirmed, so what is lost begins in one of them."""
LEFT_OUT = 1 << 20
"""Numbers that are left out when a lane is taken over, more than a batch has. What its owner before
may still append, stored in a database that has forgotten it since, lies below its own then."""

LEFT_AGAIN_AFTER = 30.0
"""Seconds until batches that somebody has left are tried again, where a blocked log kept some of
them from being published. Whoever follows their lane tries it as soon as the log is mended."""

SET_BACK_AT_MOST = 16
"""How often a log may be found set back while the same batches are published. More than that is a
broker that changes all the time, and whoever publishes tries again later."""

SetAside: TypeAlias = Callable[[Connection, Outgoing, BrokerError], Awaitable[None]]
"""Keeps an entry that the broker refused for good, in the transaction that takes it out of its
batch: it is kept once."""

logger = logging.getLogger(__name__)


class Logs(Protocol):
    """What publishing needs of a :class:`~redfaust.brokers.broker.Broker`."""

    async def append_once(self, batches: Sequence[LaneBatch]) -> Mapping[str, Mapping[TP, Place]]:
        """Append what the lanes have not put there yet."""

    async def marks(self, lanes: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        """The last numbers that lanes have put there."""

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
    """Publishes batches of the lanes that it follows, those of one lane in their order.

    Every method may raise what broker and database raise. Then nothing is lost, and repeating is
    harmless: whoever publishes a batch again finds the marks above it.

    A log that is blocked holds back the entries of a lane for it, and no others. Their batches stay
    unpublished in the database. No later entry of the lane goes to that log before them, also once
    the log is mended: :meth:`retry_held` publishes them first.
    """

    def __init__(self, database: Database, logs: Logs, *, set_aside: SetAside) -> None:
        self._database = database
        self._logs = logs
        self._set_aside = set_aside
        # By lane, its marks as they were last seen: whom they are missing from has lost entries.
        self._followed: dict[str, dict[TP, int]] = {}
        # A mark must not pass what another task is about to append again.
        self._one_at_a_time = asyncio.Lock()
        self._held: dict[str, set[TP]] = {}
        """By lane, the logs for which entries are held back."""
        self._resumed: set[TP] = set()
        """Mended logs that get what was held back for them now. Until all of it is there, others of
        these entries stay held back: a higher number would make them repeats."""
        self._tried_left: dict[str, float] = {}
        """By lane of somebody else, when it was found that a log holds back what is left of it."""
        self.incarnation = ""
        """Of the broker, with its identity, when what was lost was last looked for. Published
        batches are noted with it."""
        self.blocked: dict[TP, str] = {}
        """The logs that hold something back, with the reasons."""
        self.published = 0
        """Entries of batches that were published as a whole since the start."""

    async def take_over(
        self, producers: Collection[str], *, leave_out: int = LEFT_OUT
    ) -> dict[str, Lane]:
        """Follow the lanes of these producers, publish what is left of them, and say where each
        goes on: above its marks, by ``leave_out``."""
        async with self._one_at_a_time:
            async with self._database.transaction() as connection:
                lanes = await open_lanes(connection, producers)
                former = await former_lanes(connection, lanes.values())
            self.incarnation = self.incarnation or await self.find_incarnation()
            marks = await self._logs.marks([*lanes.values(), *former])
            # Before looking for what is left: who stages in between then changes this number.
            async with self._database.transaction() as connection:
                numbers = await raise_lanes(connection, marks, leave_out=leave_out)
            failpoints.point("outbox.taken_over")
            for lane in former:
                await self._publish_left_on([lane])
            marks = {lane: marks[lane] for lane in lanes.values()}
            self._follow(marks)
            await self._restore(marks)
            await self._publish_unpublished(lanes.values())
            return {producer: Lane(lane, numbers.get(lane, 0)) for producer, lane in lanes.items()}

    async def publish_left(self, seconds: float) -> None:
        """Publish what has been unpublished for so long, whosever it is."""
        async with self._one_at_a_time:
            async with self._database.transaction() as connection:
                rows = await connection.fetch(_query("select_left_lanes"), seconds)
            now = asyncio.get_running_loop().time()
            lanes = [
                row["lane"]
                for row in rows
                if self._tried_left.get(row["lane"], -LEFT_AGAIN_AFTER) + LEFT_AGAIN_AFTER <= now
            ]
            if lanes:
                await self._publish_left_on(lanes)
                self._tried_left |= {lane: now for lane in lanes if lane in self._held}

    async def retry_held(self) -> None:
        """Publish what was held back for logs that are mended by now."""
        async with self._one_at_a_time:
            held = set().union(*self._held.values())
            if not held:
                return
            mended = held - (await self._logs.blocked(held)).keys()
            lanes = [lane for lane, of_lane in self._held.items() if of_lane & mended]
            self._resumed = mended
            try:
                if lanes:
                    await self._publish_left_on(lanes)
                self._release(lanes, self._resumed)
            finally:
                self._resumed = set()

    async def restore(self, lanes: Collection[str]) -> Collection[str]:
        """Append again what logs have lost of these lanes; returns those that had lost something.

        The marks tell: a log has lost entries if the mark of a lane is lower than it was when the
        lane's batches were published.
        """
        async with self._one_at_a_time, self._following(lanes) as marks:
            return await self._restore(marks)

    async def find_incarnation(self) -> str:
        """Another one whenever the broker may have lost something, or was wiped."""
        return f"{await self._logs.identity()}/{await self._logs.incarnation()}"

    @property
    def followed(self) -> Collection[str]:
        """The lanes whose batches are published here."""
        return list(self._followed)

    async def forget(self, lanes: Iterable[str]) -> None:
        """Follow them no more."""
        async with self._one_at_a_time:
            self._forget(lanes)

    async def publish(self, batches: Sequence[Staged]) -> None:
        """Append batches, and note that they are published; those of other lanes are left out."""
        async with self._one_at_a_time:
            await self._publish(batches)

    async def _publish_left_on(self, lanes: Collection[str]) -> None:
        async with self._following(lanes) as marks:
            await self._restore(marks)
            await self._publish_unpublished(lanes)

    def _follow(self, marks: Mapping[str, Mapping[TP, int]]) -> None:
        self._followed.update({lane: dict(of_lane) for lane, of_lane in marks.items()})

    def _forget(self, lanes: Iterable[str]) -> None:
        for lane in lanes:
            self._followed.pop(lane, None)
            self._held.pop(lane, None)
            self._tried_left.pop(lane, None)
        held = set().union(*self._held.values())
        self.blocked = {tp: reason for tp, reason in self.blocked.items() if tp in held}

    def _hold(self, lane: str, tp: TP, reason: str) -> None:
        """Hold back entries of a lane for a log from now on."""
        if tp not in self.blocked:
            logger.error("%s %s takes no entries, which wait: %s", tp.topic, tp.partition, reason)
        self.blocked[tp] = reason
        self._held.setdefault(lane, set()).add(tp)
        self._resumed.discard(tp)

    def _release(self, lanes: Iterable[str], mended: Set[TP]) -> None:
        """Hold nothing of these lanes back for these logs any more."""
        for lane in lanes:
            self._held[lane] -= mended
            if not self._held[lane]:
                del self._held[lane]
                self._tried_left.pop(lane, None)
        for tp in self.blocked.keys() - set().union(*self._held.values()):
            logger.warning("%s %s takes entries again", tp.topic, tp.partition)
            del self.blocked[tp]

    @asynccontextmanager
    async def _following(
        self, lanes: Collection[str]
    ) -> AsyncIterator[Mapping[str, Mapping[TP, int]]]:
        """Follow other lanes as well, for as long as this takes; gives the marks of them all."""
        others = [lane for lane in lanes if lane not in self._followed]
        marks = await self._logs.marks(lanes)
        self._follow({lane: marks[lane] for lane in others})
        try:
            yield marks
        finally:
            for lane in others:  # what is held back of them is remembered
                self._followed.pop(lane, None)

    async def _restore(self, marks: Mapping[str, Mapping[TP, int]]) -> Collection[str]:
        """See :meth:`restore`, for lanes that are followed and have these marks now."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(_query("select_reached"), list(marks), LOOK_BACK)
        reached = [
            (row["lane"], TP(row["topic"], row["partition"]), row["mark"], row["incarnations"])
            for row in rows
        ]
        reached += [
            (lane, *seen, [self.incarnation])
            for lane in marks
            for seen in self._followed[lane].items()
        ]
        behind = []
        published: dict[TP, set[str | None]] = {}
        for lane, tp, mark, incarnations in reached:
            if (left := marks[lane].get(tp, 0)) < mark:
                behind.append((lane, tp, left))
                published.setdefault(tp, set()).update(incarnations)
        if not behind:
            return ()
        lost, blocked = await self.find_lost(published)
        begin: dict[str, int] = {}
        for lane, tp, left in behind:
            if tp in blocked:
                self._hold(lane, tp, blocked[tp])
            elif tp in lost:
                begin[lane] = min(left, begin.get(lane, left))
        self._follow({lane: marks[lane] for lane in begin})
        for lane, number in begin.items():
            await self._append_again(lane, number)
        return begin

    async def find_lost(
        self, published: Mapping[TP, Set[str | None]]
    ) -> tuple[Set[TP], Mapping[TP, str]]:
        """Of logs in which marks are missing, those that have lost entries, and those that are
        blocked, with the reasons: of them nobody can tell. Each comes with the incarnations under
        which entries were published there.

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

    async def _publish_unpublished(self, lanes: Collection[str]) -> None:
        behind = "", 0
        while batches := await self._fetch(
            "select_unpublished", list(lanes), *behind, PAGE, BATCH_BYTES
        ):
            await self._publish(batches)
            behind = batches[-1].lane, batches[-1].last_number

    async def _append_again(self, lane: str, last_number: int) -> None:
        """All that is kept of a lane behind this number; what is on its logs is skipped."""
        logger.warning("The broker has lost what followed %s on lane %s", last_number, lane)
        while batches := await self._fetch("select_kept", lane, last_number, PAGE, BATCH_BYTES):
            await self._publish(batches)
            last_number = batches[-1].last_number
        failpoints.point("outbox.restored")

    async def _publish(self, batches: Sequence[Staged]) -> None:
        set_back = 0
        while True:
            batches = [batch for batch in batches if batch.lane in self._followed]
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
                await self._restore(await self._logs.marks(loss.lanes))
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
            (batch.lane, tp)
            for batch in batches
            for tp in blocked
            if any(_is_of(each, {tp}, partitions) for each in batch.entries)
        ]
        for lane, tp in held:
            self._hold(lane, tp, blocked[tp])
        return bool(held)

    async def _without_held(
        self, batches: Sequence[Staged]
    ) -> tuple[Sequence[Staged], Sequence[Staged]]:
        """The batches without entries that are held back, and those that are whole."""
        if not any(batch.lane in self._held for batch in batches):
            return batches, batches
        partitions = await self._logs.topics()
        free, whole = [], []
        for batch in batches:
            held = self._held.get(batch.lane, set()) - self._resumed
            entries = tuple(each for each in batch.entries if not _is_of(each, held, partitions))
            free.append(batch._replace(entries=entries))
            if len(entries) == len(batch.entries):
                whole.append(batch)
        return free, whole

    async def _append(self, batches: Iterable[Staged]) -> Mapping[str, Mapping[TP, Place]]:
        entries: dict[str, list[Numbered]] = {}
        for batch in batches:
            entries.setdefault(batch.lane, []).extend(batch.entries)
        places = await self._logs.append_once(
            [LaneBatch(lane, of_lane, self._followed[lane]) for lane, of_lane in entries.items()]
        )
        for lane, of_lane in places.items():
            self._followed[lane].update({tp: place.mark for tp, place in of_lane.items()})
        return places

    async def _without(self, batches: Iterable[Staged], refused: Iterable[Refused]) -> list[Staged]:
        """The batches without refused entries, which are set aside."""
        errors: dict[str, dict[int, BrokerError]] = {}
        for lane, number, error in refused:
            errors.setdefault(lane, {})[number] = error
        kept = []
        for batch in batches:
            refusals = errors.get(batch.lane, {})
            entries = tuple(each for each in batch.entries if each.number not in refusals)
            if len(entries) < len(batch.entries):
                await self._set_aside_from(batch, refusals)
                failpoints.point("outbox.set_aside")
            kept.append(batch._replace(entries=entries))
        return kept

    async def _set_aside_from(self, batch: Staged, errors: Mapping[int, BrokerError]) -> None:
        passed = await self._passed_places(batch)
        async with self._database.transaction() as connection:
            # Somebody else may publish the same batch: whoever comes second finds nothing there.
            stored = await connection.fetchval(
                _query("lock_entries"), batch.lane, batch.last_number
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
                    await self._set_aside(connection, entry, errors[number])
            await connection.execute(
                _query("drop_entries"), batch.lane, batch.last_number, list(errors)
            )

    async def _passed_places(self, batch: Staged) -> Mapping[TP, bool]:
        """Where a batch was published before, and whether every group has passed it there."""
        rows = await self._database.fetch(_query("select_places"), batch.lane, batch.last_number)
        places = {TP(topic, number): int(at) for topic, number, _, at in rows}
        floors = await self._logs.floors(places) if places else {}
        return {tp: floors.get(tp, 0) >= position for tp, position in places.items()}

    async def _note_published(
        self, batches: Sequence[Staged], places: Mapping[str, Mapping[TP, Place]]
    ) -> None:
        rows = [
            (lane, tp.topic, tp.partition, mark, position)
            for lane, of_lane in places.items()
            for tp, (mark, position) in of_lane.items()
        ]
        if not batches:
            return
        columns = map(list, zip(*rows, strict=True)) if rows else ([],) * 5
        await self._database.fetch(
            _query("note_published"),
            [batch.lane for batch in batches],
            [batch.last_number for batch in batches],
            *columns,
            self.incarnation,
        )

    async def _fetch(self, query: str, *arguments: object) -> list[Staged]:
        return staged(await self._database.fetch(_query(query), *arguments))


def _target(numbered: Numbered, partitions: Mapping[str, int]) -> TP | None:
    """The log that an entry is for; ``None`` if its topic is not known yet."""
    number, entry = numbered
    if entry.partition is not None:
        return TP(entry.topic, entry.partition)
    if entry.topic not in partitions:
        return None
    count = partitions[entry.topic]
    return TP(entry.topic, partition_of_numbered(entry.key, number, count))


def _is_passed(entry: Outgoing, passed: Mapping[TP, bool]) -> bool:
    """Returns True if an entry was published, and every group has passed it."""
    of_entry = [
        is_passed
        for tp, is_passed in passed.items()
        if tp.topic == entry.topic and entry.partition in (None, tp.partition)
    ]
    return bool(of_entry) and all(of_entry)


def _is_of(numbered: Numbered, logs: Set[TP], partitions: Mapping[str, int]) -> bool:
    """Whether an entry is for one of these logs. While the catalog has lost its topic it may be for
    any of that topic's: what goes there before it would make a repeat of it."""
    target = _target(numbered, partitions)
    if target is None:
        return any(tp.topic == numbered.entry.topic for tp in logs)
    return target in logs


def _query(name: str) -> str:
    return load("redfaust.outbox", name)
