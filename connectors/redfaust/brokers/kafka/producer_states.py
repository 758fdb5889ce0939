"""Appending once: Postgres keeps how far each producer has come in each log.

No transaction spans both, so a producer is *in doubt* in a log from before it appends to it until
its last sequence is stored::

    settled ──note where its next entries may lie──▶ in doubt ──append, store sequence──▶ settled
                                                        │ crash, or no answer            ▲
                                                        └── look at what lies there ─────┘

One process at a time sends for a producer. Only a process that has lost its session to Postgres
while an append was on its way can put entries there a second time. Consumers know such entries by
producer and number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from faust.types import TP

from redfaust import failpoints
from redfaust.brokers.broker import (
    EntriesRefused,
    LogsBlocked,
    LogTruncated,
    Place,
    Refused,
    SequencedEntry,
)
from redfaust.brokers.kafka.appender import Appender, EntryRefused, LogClosed
from redfaust.brokers.kafka.entry import log_of, with_source
from redfaust.brokers.kafka.log_inspector import LogInspector
from redfaust.brokers.kafka.store import Store, query
from redfaust.brokers.partition_batch import PartitionBatch
from redfaust.postgres.database import Connection

LOOK_BACK = 10_000
"""Entries at the end of a log that was set back among which a producer's last one is looked for."""


Key = tuple[str, TP]
"""A producer in a log."""


@dataclass(slots=True)
class _Stand:
    """Where a producer stands in a log."""

    place: Place
    since: int | None
    losses: int


class ProducerStates:
    """The last sequences of one cluster."""

    def __init__(self, store: Store, log_inspector: LogInspector, appender: Appender) -> None:
        self._store = store
        self._log_inspector = log_inspector
        self._appender = appender
        self._ends: dict[TP, int] = {}
        """How long logs are at least, as far as this process has seen."""

    async def append(
        self, partition_batches: Sequence[PartitionBatch], refused: Sequence[Refused]
    ) -> dict[str, dict[TP, Place]]:
        """See :meth:`~redfaust.brokers.broker.Broker.append_once`; ``refused`` were entries that
        are not in the partition_batches."""
        stands: dict[Key, _Stand] = {}
        outcomes: Sequence[BaseException | None] = []
        if partition_batches:
            stands, outcomes = await self._append(partition_batches)
        blocked: dict[TP, str] = {}
        for partition_batch, outcome in zip(partition_batches, outcomes, strict=True):
            match outcome:
                case EntriesRefused():
                    refused = [*refused, *outcome.refused]
                case LogClosed():
                    blocked[partition_batch.tp] = str(outcome)
                    del stands[partition_batch.producer_id, partition_batch.tp]
                case BaseException():
                    raise outcome
        if refused:
            raise EntriesRefused(refused)
        places: dict[str, dict[TP, Place]] = {}
        for (producer_id, tp), stand in stands.items():
            places.setdefault(producer_id, {})[tp] = stand.place
        if blocked:
            raise LogsBlocked(blocked, places)
        return places

    async def _append(
        self, partition_batches: Sequence[PartitionBatch]
    ) -> tuple[dict[Key, _Stand], Sequence[BaseException | None]]:
        """Where the producers stand then, and what has failed of each partition_batch."""
        await self._appender.settled()
        async with self._alone(
            {partition_batch.producer_id for partition_batch in partition_batches}
        ) as guard:
            stands = await self._settled(
                guard,
                [
                    (partition_batch.producer_id, partition_batch.tp)
                    for partition_batch in partition_batches
                ],
            )
            set_back = {
                partition_batch.producer_id
                for partition_batch in partition_batches
                if partition_batch.after
                > stands[partition_batch.producer_id, partition_batch.tp].place.last_sequence
            }
            if set_back:
                raise LogTruncated(set_back)
            fresh = [
                _above(
                    partition_batch,
                    stands[partition_batch.producer_id, partition_batch.tp].place.last_sequence,
                )
                for partition_batch in partition_batches
            ]
            doubtful = {
                (partition_batch.producer_id, partition_batch.tp): stands[
                    partition_batch.producer_id, partition_batch.tp
                ]
                for partition_batch in fresh
                if partition_batch.entries
            }
            await self._doubt(doubtful)
            outcomes = await asyncio.gather(
                *(
                    self._put(
                        partition_batch, stands[partition_batch.producer_id, partition_batch.tp]
                    )
                    for partition_batch in fresh
                ),
                return_exceptions=True,
            )
            failpoints.point("producers.appended")
            await self._save(guard, stands)
        return stands, outcomes

    async def _put(self, partition_batch: PartitionBatch, stand: _Stand) -> None:
        """Append what is new; the stand says how far that came, and is settled if that is known."""
        producer_id, tp, _, left = partition_batch
        signer = log_of(self._store.signer, *tp)
        while left:
            try:
                signed = [with_source(signer, producer_id, each) for each in left]
                put = await self._appender.put(tp, signed)
            except LogClosed:
                stand.since = None
                raise
            except EntryRefused as error:
                stand.since = None
                raise EntriesRefused([Refused(producer_id, left[0].number, error)]) from error
            self._ends[tp] = put.end
            done, left = left[: put.end - put.first], left[put.end - put.first :]
            stand.place = Place(done[-1].number, put.end)
        stand.since = None

    async def last_sequences(self, producer_ids: Collection[str]) -> dict[str, dict[TP, int]]:
        """The last sequences of the producers in each log where they have one."""
        found: dict[str, dict[TP, int]] = {producer_id: {} for producer_id in producer_ids}
        async with self._store.transaction() as connection:
            stands = await self._select(connection, producer_ids)
        unsettled = {
            producer_id for (producer_id, _), stand in stands.items() if not self._is_settled(stand)
        }
        if unsettled:
            async with self._alone(unsettled) as guard:
                known = await self._select(guard, unsettled)
                stands |= await self._settled(guard, list(known))
                await self._save(guard, stands)
        for (producer_id, tp), stand in stands.items():
            if stand.place.last_sequence:
                found[producer_id][tp] = stand.place.last_sequence
        return found

    # -- doubt -------------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone(self, producer_ids: Collection[str]) -> AsyncIterator[Connection]:
        """While nobody else sends on these producers."""
        async with self._store.transaction() as guard:
            await guard.execute(query("lock_producers"), sorted(producer_ids))
            yield guard

    def _is_settled(self, stand: _Stand) -> bool:
        return stand.since is None and stand.losses == self._store.losses

    async def _settled(self, guard: Connection, keys: Sequence[Key]) -> dict[Key, _Stand]:
        """Where producers stand, after a look at the logs where that is not known."""
        known = await self._select(guard, {producer_id for producer_id, _ in keys})
        stands = {
            key: known.get(key) or _Stand(Place(0, 0), None, self._store.losses) for key in keys
        }
        unsettled = [key for key, stand in stands.items() if not self._is_settled(stand)]
        bounds = await self._log_inspector.bounds({tp for _, tp in unsettled})
        for tp, (_, end) in bounds.items():
            self._ends[tp] = end
        for producer_id, tp in unsettled:
            stand = stands[producer_id, tp]
            first, end = bounds[tp]
            if stand.losses != self._store.losses:
                stand.place = await self._not_lost(producer_id, tp, stand.place, first, end)
                stand.losses = self._store.losses
            if stand.since is not None:
                start = max(first, min(stand.since, end))
                found = await self._log_inspector.places(tp, start, end)
                if (
                    producer_id in found
                    and found[producer_id].last_sequence > stand.place.last_sequence
                ):
                    stand.place = found[producer_id]
                stand.since = None
        return stands

    async def _not_lost(
        self, producer_id: str, tp: TP, place: Place, first: int, end: int
    ) -> Place:
        """How far a producer has come in a log that may have been set back."""
        if place.position <= first:
            return Place(place.last_sequence, min(place.position, end))  # removed long ago
        if place.position <= end:
            last = await self._log_inspector.entry(tp, place.position - 1)
            if last is None or last.source == (producer_id, place.last_sequence):
                return place
        found = await self._log_inspector.places(tp, max(first, end - LOOK_BACK), end)
        return found.get(producer_id, Place(0, end))

    async def _doubt(self, stands: Mapping[Key, _Stand]) -> None:
        """Note, before anything is appended, where it may come to lie."""
        if unknown := [tp for _, tp in stands if tp not in self._ends]:
            self._ends |= await self._log_inspector.ends(unknown)
        for (_, tp), stand in stands.items():
            stand.since = max(stand.place.position, self._ends[tp])
        if stands:
            async with self._store.transaction() as connection:
                await self._save(connection, stands)

    # -- what is kept ------------------------------------------------------------------------

    async def _select(
        self, connection: Connection, producer_ids: Collection[str]
    ) -> dict[Key, _Stand]:
        rows = await connection.fetch(
            query("select_last_sequences"), self._store.log, list(producer_ids)
        )
        return {
            (row["producer_id"], TP(row["topic"], row["partition"])): _Stand(
                Place(row["last_sequence"], row["position"]), row["since"], row["losses"]
            )
            for row in rows
        }

    async def _save(self, connection: Connection, stands: Mapping[Key, _Stand]) -> None:
        await connection.execute(
            query("save_last_sequences"),
            self._store.log,
            [producer_id for producer_id, _ in stands],
            [tp.topic for _, tp in stands],
            [tp.partition for _, tp in stands],
            [stand.place.last_sequence for stand in stands.values()],
            [stand.place.position for stand in stands.values()],
            [stand.since for stand in stands.values()],
            [stand.losses for stand in stands.values()],
        )


def _above(partition_batch: PartitionBatch, last_sequence: int) -> PartitionBatch:
    """What of a partition batch is not there yet; a number that comes twice counts once."""
    fresh: list[SequencedEntry] = []
    for sequenced in partition_batch.entries:
        if sequenced.number > last_sequence:
            fresh.append(sequenced)
            last_sequence = sequenced.number
    return partition_batch._replace(entries=fresh)
