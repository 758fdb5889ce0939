"""More partitions for the topics of an application that is at rest, and its rows where they belong.

::

    open ──close──▶ closed, all is done? ──rows are moved──▶ closed ──open──▶ open, with more
     ▲                        │
     └───────── no ───────────┘

Rows and the number of partitions that the database knows change in one transaction. Where this is
interrupted behind it, the topics stay closed and workers refuse to begin, until it is done again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, cast

from faust.types import TP, AppT

from redfaust import failpoints
from redfaust.brokers.broker import Broker
from redfaust.brokers.capabilities import Capability, require
from redfaust.errors import AlterationRefused
from redfaust.outbox.batch_publisher import BatchPublisher
from redfaust.outbox.maintenance import Maintenance
from redfaust.outbox.partition_pinning import pin
from redfaust.outbox.relay import SILENT_FOR, try_to_lead
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.queries import load
from redfaust.processing.committer import known_partitions
from redfaust.processing.rejected import dead_letter_rejected
from redfaust.processing.state_backend import PostgresStateBackend
from redfaust.tables.manager import TableManager
from redfaust.tables.store import PostgresStore
from redfaust.tables.table import Table

ROWS = 1_000
"""Rows that are moved by one statement."""


class Altered(NamedTuple):
    """What was done."""

    topics: Mapping[str, int]
    """Those that have more partitions now, with the number that they had."""
    rows: Mapping[str, int]
    """By table, how many rows belong to another partition now; none if that was done before."""


async def alter_partitions(
    app: AppT, partitions: int, *, left_alone: Collection[str] = ()
) -> Altered:
    """Give all topics that an application reads so many partitions, and move its tables' rows.

    Tables that are ``left_alone`` have rows that belong to a partition, and not to keys of events.

    Raises :class:`~redfaust.errors.AlterationRefused` with what to do before; then nothing has
    changed, as it has not after :class:`~redfaust.errors.BrokerUnsupported`. After any other
    error, and if this is killed, it has to be done again.
    """
    tables = cast("TableManager", app.tables)
    broker = cast("Broker", app.transport.broker)  # type: ignore[attr-defined] # ours
    require(broker, Capability.MORE_PARTITIONS, "topics are to be altered")
    await broker.open()
    try:
        await tables.open_database()
        if not isinstance(tables.state_backend, PostgresStateBackend) or tables.has_changelogs:
            raise AlterationRefused(
                "only tables in Postgres can follow: the application needs "
                'store="postgresql://…", and no table with another one'
            )
        moving = _without(tables.postgres_tables(), left_alone)
        return await _Alteration(
            app, partitions, broker, tables.state_backend.database, moving
        ).run()
    finally:
        await tables.on_shutdown()
        await broker.close()


def _without(tables: Sequence[Table], left_alone: Collection[str]) -> list[Table]:
    if unknown := set(left_alone) - {table.name for table in tables}:
        raise AlterationRefused(f"there is no table {min(unknown)}")
    moving = [table for table in tables if table.name not in left_alone]
    for table in moving:
        if table.use_partitioner:
            raise AlterationRefused(
                f"table {table.name} has use_partitioner, so that nothing says where its rows go. "
                "If they belong to the keys of events, take it away; if they belong to a "
                "partition, have the table left alone"
            )
    return moving


class _Alteration:
    def __init__(
        self,
        app: AppT,
        partitions: int,
        broker: Broker,
        database: Database,
        tables: Sequence[Table],
    ) -> None:
        self._conf = app.conf
        self._id = app.conf.id
        self._partitions = partitions
        self._broker = broker
        self._database = database
        self._tables = tables

    async def run(self) -> Altered:
        await self._nobody_works()
        async with self._database.dedicated() as session:
            if not await try_to_lead(session, SILENT_FOR):
                raise AlterationRefused("a relay is at work: stop all of them, and try again")
            topics = await self._topics()
            half_done = await self._is_half_done(session, topics)
            if not half_done:
                await self._broker.open_topics(topics)  # who was killed may have closed them
                await self._maintain()
            fewer = {topic: n for topic, n in topics.items() if n < self._partitions}
            if not fewer:
                return Altered({}, {})
            await self._broker.close_topics(fewer)
            failpoints.point("alteration.closed")
            rows: Mapping[str, int] = {}
            if not half_done:
                try:
                    async with session.transaction():
                        rows = await self._alter(session, topics)
                except AlterationRefused:
                    await self._broker.open_topics(fewer)
                    raise
            failpoints.point("alteration.committed")
            await self._broker.open_topics(dict.fromkeys(fewer, self._partitions))
            return Altered(fewer, rows)

    async def _topics(self) -> Mapping[str, int]:
        """Those that the application reads, without Faust's own, which have one partition each."""
        counts = await self._broker.topics()
        groups = await self._broker.groups(counts)
        fausts = (f"{self._id}-__assignor-__leader", self._conf.reply_to_prefix)
        topics = {
            topic: count
            for topic, count in counts.items()
            if any(map(self._is_ours, groups[topic])) and not topic.startswith(fausts)
        }
        if not topics:
            raise AlterationRefused(
                f"{self._id} reads no topics yet: a worker declares them when it starts, with "
                "topic_partitions"
            )
        for topic in topics:
            if strangers := [group for group in groups[topic] if not self._is_ours(group)]:
                raise AlterationRefused(
                    f"topic {topic} is read by {min(strangers)} too, whose tables would stay as "
                    "they are. Take its groups away if it is gone for good (XGROUP DESTROY)"
                )
        return topics

    def _is_ours(self, group: str) -> bool:
        return group == self._id or group.startswith(f"{self._id}/")

    async def _is_half_done(self, connection: Connection, topics: Mapping[str, int]) -> bool:
        """Whether rows are where they belong, and topics are not."""
        known = await known_partitions(connection, self._id, topics)
        intended = {count for topic, count in known.items() if count > topics[topic]}
        if intended - {self._partitions}:
            raise AlterationRefused(
                f"an alteration to {max(intended)} partitions was interrupted: do that again first"
            )
        if self._partitions < (most := max(topics.values())):
            raise AlterationRefused(
                f"there are {most} partitions, and cannot be fewer: what lies in those that went "
                "would not be read any more"
            )
        return bool(intended)

    async def _nobody_works(self) -> None:
        if members := (await self._broker.group_state(self._id)).heard():
            raise AlterationRefused(
                f"{len(members)} workers run, {min(members)} among them: stop them, and try "
                "again (who was killed counts for some seconds)"
            )

    async def _maintain(self) -> None:
        """What a relay does beside relaying: nothing lost or left over may come up later."""
        dead_letter = dead_letter_rejected(self._database, self._id)
        batch_publisher = BatchPublisher(self._database, self._broker, dead_letter=dead_letter)
        await Maintenance(self._database, self._broker, batch_publisher, everybody=True).keep()

    async def _alter(self, connection: Connection, topics: Mapping[str, int]) -> Mapping[str, int]:
        await connection.execute(
            _query("fence_partitions"), self._id, list(topics), self._partitions
        )
        await self._all_is_done(connection, topics)
        await pin(connection, topics)
        return {
            table.name: await self._move_rows(connection, table, set(topics.values()))
            for table in self._tables
        }

    async def _all_is_done(self, connection: Connection, topics: Mapping[str, int]) -> None:
        tps = [TP(topic, number) for topic, count in topics.items() for number in range(count)]
        bounds = await self._broker.bounds(tps)
        floors = await self._broker.floors(tps)
        rows = await connection.fetch(
            _query("select_positions"), self._id, await self._broker.identity()
        )
        committed = {TP(topic, number): int(position) for topic, number, position in rows}
        behind = [
            f"{tp.topic} {tp.partition}"
            for tp, (first, end) in bounds.items()
            if min(floors.get(tp, first), committed.get(tp, end)) < end
        ]
        if behind:
            raise AlterationRefused(
                f"{len(behind)} partitions have events that are not processed, {behind[0]} among "
                "them: let workers finish them, stop the workers, and try again"
            )
        counts = await connection.fetchrow(_query("count_unfinished"), list(topics))
        assert counts is not None
        if counts["parked"]:
            raise AlterationRefused(
                f"{counts['parked']} events wait for another attempt: let workers make them, or "
                "give them up, stop the workers, and try again"
            )
        if counts["unpublished"]:
            raise AlterationRefused(
                f"{counts['unpublished']} batches of events are not published: let a relay publish "
                "them, stop it, and try again"
            )

    async def _move_rows(self, connection: Connection, table: Table, counts: set[int]) -> int:
        """Move those that belong elsewhere, of a table written from topics with such counts."""
        store, moved = cast("PostgresStore", table.data), 0
        moving: dict[object, int] = {}
        async for key, partition in store.places(connection):
            own = table.partition_among(self._partitions, key)
            if own == partition:
                continue
            if partition not in {table.partition_among(count, key) for count in counts}:
                raise AlterationRefused(
                    f"table {table.name}: the row of {key!r} lies in partition {partition}, where "
                    "its key does not belong. An event was sent to a partition of its sender's "
                    "choice, perhaps: put the row where later events of its key are, delete it, or "
                    "have the table left alone"
                )
            moving[key] = own
            if len(moving) == ROWS:
                await store.move(connection, moving)
                moved, moving = moved + ROWS, {}
        await store.move(connection, moving)
        return moved + len(moving)


def _query(name: str) -> str:
    return load("redfaust.tables", name)
