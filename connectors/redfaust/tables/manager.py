"""The tables of an application, and the database that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, cast

from faust.exceptions import ImproperlyConfigured
from faust.tables.manager import TableManager as FaustTableManager
from faust.types import TP
from yarl import URL

from redfaust import failpoints
from redfaust.errors import DatabaseBusy, DatabaseError, RowUnreadable
from redfaust.postgres.database import Database, our_statements
from redfaust.postgres.migrate import migrate
from redfaust.processing.shared.delivery import deliveries_of
from redfaust.processing.state_backend import PostgresStateBackend, StateBackend
from redfaust.tables.global_table import EverywhereStore, GlobalTable
from redfaust.tables.prefetch import Prefetch
from redfaust.tables.store import SCHEMA, PostgresStore
from redfaust.tables.table import Table

POSTGRES = frozenset({"postgresql", "postgres"})
"""Schemes of the URLs that mean Postgres."""

RETRY_EVERY = 0.5
"""Seconds between two attempts to load a table while the database is away."""


async def open_postgres(manager: TableManager) -> StateBackend:
    """Connect to the database, and have all tables in it.

    Raises RightsMissing if something is missing there that the role may not create.
    """
    app = manager.app
    database = await connect(manager)
    try:
        await create_tables(manager, database)
    except BaseException:
        await database.close()
        raise
    manager.prefetch = Prefetch(manager, database, manager.postgres_tables)
    broker = app.transport.broker  # type: ignore[attr-defined] # ours, as the store is
    return PostgresStateBackend(app, database, broker, manager.stores)


async def connect(manager: TableManager) -> Database:
    """The database of ``store="postgresql://…"``."""
    conf = manager.app.conf
    url = str(URL(conf.store).without_query_params(SCHEMA))
    return await Database.connect(url, application_name=f"redfaust {conf.id}")


async def create_tables(manager: TableManager, database: Database) -> list[str]:
    """Create what is missing of redfaust's schema and of the application's tables.

    Returns the migrations that were applied, and the statements. Raises RightsMissing.
    """
    done = await migrate(database)
    _must_differ(manager.stores())
    for store in manager.stores():
        done += await _create(manager, database, store)
    return done


async def missing_tables(manager: TableManager, database: Database) -> list[str]:
    """The statements that create what is missing of the application's tables."""
    async with database.transaction() as connection:
        return [each for store in manager.stores() for each in await store.missing(connection)]


async def _create(manager: TableManager, database: Database, store: PostgresStore) -> list[str]:
    """Have a table in the database, and return the statements that were needed. While others are in
    the way this waits."""
    while True:
        try:
            with our_statements(f"{store.label} cannot be created"):
                async with database.transaction() as connection:
                    return await store.create(connection)
        except DatabaseBusy as error:
            if manager.should_stop:
                raise
            manager.log.warning("%s waits for the database: %s", store.label, error)
            await manager.sleep(RETRY_EVERY)


def _must_differ(stores: Iterable[PostgresStore]) -> None:
    """Raises ImproperlyConfigured for two tables of one name in Postgres."""
    found: dict[tuple[str, str], str] = {}
    for store in stores:
        for name in store.names:
            if (other := found.setdefault(name, store.table_name)) != store.table_name:
                raise ImproperlyConfigured(
                    f"Tables {other!r} and {store.table_name!r} would both need the name "
                    f"{name[1]!r} in Postgres, for the table or an index: rename one of them"
                )


class TableManager(FaustTableManager):
    """Faust's table manager, which also keeps tables that live in Postgres."""

    mundane_level = "debug"

    opener: Callable[[TableManager], Awaitable[StateBackend]] = staticmethod(open_postgres)
    """How the state of ``store="postgresql://…"`` is opened; a test has it in memory."""
    state_backend: StateBackend | None = None
    prefetch: Prefetch | None = None
    runs_relay = True
    """Whether the worker carries the outbox too, or leaves that to other processes."""

    async def on_start(self) -> None:
        await self.open_database()
        await self._update_channels()
        await self.recovery.start()

    async def on_stop(self) -> None:
        # As long as what they have done can be committed.
        await asyncio.gather(*(delivery.drain() for delivery in deliveries_of(self.app)))
        await super().on_stop()

    async def on_shutdown(self) -> None:
        if self.state_backend is not None:
            await self.state_backend.close()

    async def open_database(self) -> None:
        """Connect to the database, if there is one, and have all tables in it."""
        if URL(self.app.conf.store).scheme in POSTGRES:
            self.state_backend = await self.opener(self)

    async def _update_channels(self) -> None:
        self._tables_finalized.set()
        for table in self.values():
            if table not in self._channels and not isinstance(table.data, PostgresStore):
                channel = table.changelog_topic.clone_using_queue(self.changelog_queue)
                self.app.topics.add(channel)
                self._channels[table] = channel
            await table.maybe_start()
        changelogs = {tp for tp in self.app.consumer.assignment() if tp.topic in self._changelogs}
        self.app.consumer.pause_partitions(changelogs)
        await asyncio.sleep(0)
        self._tables_registered.set()

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],
        newly_assigned: set[TP],
        generation_id: int = 0,
    ) -> None:
        """Begin anew with the partitions that are assigned."""
        if self.prefetch is not None:
            await self.prefetch.start_over()
        everywhere = [t.data for t in self.values() if isinstance(t.data, EverywhereStore)]
        forgetful: list[PostgresStore | EverywhereStore] = [*self.stores(), *everywhere]
        for store in forgetful:
            # What was not committed is done again.
            store.start_over()
        consumer: Any = self.app.consumer
        await self.gain(consumer.numbers(assigned))
        consumer.rebalance.tables_loaded()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    @property
    def topics_of_all(self) -> frozenset[str]:
        """The changelogs of tables of which each worker has all rows."""
        return frozenset(
            table.changelog_topic.get_topic_name()
            for table in self.values()
            if isinstance(table, GlobalTable)
        )

    @property
    def has_changelogs(self) -> bool:
        """Whether tables recover from topics, for which Faust stops all that is in progress."""
        return any(not isinstance(table.data, PostgresStore) for table in self.values())

    async def gain(self, partitions: Collection[int]) -> None:
        """Load the rows of partitions, which are this worker's now. While the database is away
        this waits."""
        if self.state_backend is not None and partitions:
            for store in self.stores():
                await self._load(self.state_backend, store, partitions)
        if self.prefetch is not None:
            self.prefetch.share_anew()
        failpoints.point("tables.loaded")

    def let_go(self, tps: Collection[TP], partitions: Collection[int]) -> None:
        """Forget the rows of partitions, and what waits for rows: their events are delivered to
        whoever owns them now."""
        if self.prefetch is not None:
            self.prefetch.let_go(tps)
        for store in self.stores():
            store.let_go(partitions)

    async def _load(
        self, state_backend: StateBackend, store: PostgresStore, partitions: Collection[int]
    ) -> None:
        while not self.should_stop:
            try:
                await state_backend.load(store, partitions)
            except DatabaseError as error:
                state_backend.waiting.because(f"{store.label} cannot be loaded", error)
                await self.sleep(RETRY_EVERY)
            else:
                state_backend.waiting.over()
                return

    async def read_unreadable_again(self) -> None:
        """Read those rows again that could not be, which somebody may have corrected. Raises
        DatabaseUnavailable."""
        if isinstance(self.state_backend, PostgresStateBackend):
            for store in self.stores():
                if store.unreadable:
                    await store.read_again(self.state_backend.database)

    def unreadable(self) -> Mapping[str, Sequence[RowUnreadable]]:
        """By name of a table, what is wrong with those of its rows in memory that are not of its
        types; their events are parked. Tables without any are missing."""
        return {
            table.name: found
            for table in self.postgres_tables()
            if (found := list(cast(PostgresStore, table.data).unreadable.values()))
        }

    def stores(self) -> list[PostgresStore]:
        """Those of the tables that live in Postgres."""
        return [cast(PostgresStore, table.data) for table in self.postgres_tables()]

    def postgres_tables(self) -> list[Table]:
        """Tables that live in Postgres. Raises ImproperlyConfigured where that cannot be."""
        tables = []
        for table in self.values():
            # Faust's tables of objects have their storage behind them.
            store = getattr(table.data, "storage", table.data)
            if not isinstance(store, PostgresStore):
                continue
            if not isinstance(table, Table) or table.is_global:
                raise ImproperlyConfigured(
                    f"Table {table.name!r}: postgresql:// keeps plain and windowed tables; "
                    'give this one store="memory://tables"'
                )
            tables.append(table)
        return tables
