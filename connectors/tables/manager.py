"""The tables of an application, and the database that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, cast

from faust.exceptions import ImproperlyConfigured
from faust.tables.manager import TableManager as FaustTableManager
from faust.types import TP
from yarl import URL

from connectors import crash
from connectors.errors import DatabaseUnavailable
from connectors.postgres.database import Database
from connectors.postgres.migrate import migrate_connectors
from connectors.processing.backing import Backing, PostgresBacking
from connectors.processing.shared.delivery import deliveries_of
from connectors.tables.everywhere import EverywhereStore, GlobalTable
from connectors.tables.prefetch import Prefetch
from connectors.tables.store import SCHEMA, PostgresStore
from connectors.tables.table import Table

POSTGRES = frozenset({"postgresql", "postgres"})
"""Schemes of the URLs that mean Postgres."""

RETRY_EVERY = 0.5
"""Seconds between two attempts to load a table while the database is away."""


async def open_postgres(manager: TableManager) -> Backing:
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
    return PostgresBacking(app, database, broker, manager.stores)


async def connect(manager: TableManager) -> Database:
    """The database of ``store="postgresql://…"``."""
    conf = manager.app.conf
    url = str(URL(conf.store).without_query_params(SCHEMA))
    return await Database.connect(url, application_name=f"redfaust {conf.id}")


async def create_tables(manager: TableManager, database: Database) -> list[str]:
    """Create what is missing of redfaust's schema and of the application's tables.

    Returns the migrations that were applied, and the statements. Raises RightsMissing.
    """
    done = await migrate_connectors(database)
    async with database.transaction() as connection:
        for store in manager.stores():
            done += await store.create(connection)
    return done


async def missing_tables(manager: TableManager, database: Database) -> list[str]:
    """The statements that create what is missing of the application's tables."""
    async with database.transaction() as connection:
        return [each for store in manager.stores() for each in await store.missing(connection)]


class TableManager(FaustTableManager):
    """Faust's table manager, which also keeps tables that live in Postgres."""

    mundane_level = "debug"

    opener: Callable[[TableManager], Awaitable[Backing]] = staticmethod(open_postgres)
    """How the state of ``store="postgresql://…"`` is opened; a test has it in memory."""
    backing: Backing | None = None
    prefetch: Prefetch | None = None

    async def on_start(self) -> None:
        await self.open_database()
        await self._update_channels()
        await self.recovery.start()

    async def on_stop(self) -> None:
        # As long as what they have done can be committed.
        await asyncio.gather(*(delivery.drain() for delivery in deliveries_of(self.app)))
        await super().on_stop()

    async def on_shutdown(self) -> None:
        if self.backing is not None:
            await self.backing.close()

    async def open_database(self) -> None:
        """Connect to the database, if there is one, and have all tables in it."""
        if URL(self.app.conf.store).scheme in POSTGRES:
            self.backing = await self.opener(self)

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
        if self.backing is not None and partitions:
            for store in self.stores():
                await self._load(self.backing, store, partitions)
        if self.prefetch is not None:
            self.prefetch.share_anew()
        crash.point("tables.loaded")

    def let_go(self, tps: Collection[TP], partitions: Collection[int]) -> None:
        """Forget the rows of partitions, and what waits for rows: their events are delivered to
        whoever owns them now."""
        if self.prefetch is not None:
            self.prefetch.let_go(tps)
        for store in self.stores():
            store.let_go(partitions)

    async def _load(
        self, backing: Backing, store: PostgresStore, partitions: Collection[int]
    ) -> None:
        while not self.should_stop:
            try:
                await backing.load(store, partitions)
            except DatabaseUnavailable as error:
                self.log.warning("%s waits for the database: %s", store.label, error)
                await self.sleep(RETRY_EVERY)
            else:
                return

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
