"""The tables of an application, and the database that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import asyncpg
from faust.exceptions import ImproperlyConfigured
from faust.tables.manager import TableManager as FaustTableManager
from faust.types import TP, Message
from yarl import URL

from connectors.errors import DatabaseError, DatabaseUnavailable
from connectors.postgres.database import Connection, Database
from connectors.postgres.migrate import migrate_connectors
from connectors.postgres.queries import load
from connectors.processing.dead_letters import DeadLetters, letter_about
from connectors.tables.store import REFUSED, SCHEMA, Changes, PostgresStore, Row
from connectors.tables.table import Table

POSTGRES = frozenset({"postgresql", "postgres"})
"""Schemes of the URLs that mean Postgres."""

RETRY_EVERY = 1.0
"""Seconds between two attempts to load a table while the database is away."""


class TableManager(FaustTableManager):
    """Faust's table manager, which also keeps tables that live in Postgres."""

    mundane_level = "debug"

    database: Database | None = None
    dead_letters: DeadLetters | None = None

    async def on_start(self) -> None:
        await self._open_database()
        await self._update_channels()
        await self.recovery.start()

    async def on_shutdown(self) -> None:
        if self.database is not None:
            await self.database.close()

    async def _open_database(self) -> None:
        url = URL(self.app.conf.store)
        if url.scheme not in POSTGRES:
            return
        self.database = await Database.connect(
            str(url.without_query_params(SCHEMA)), application_name=f"redfaust {self.app.conf.id}"
        )
        await migrate_connectors(self.database)
        self.dead_letters = DeadLetters(self.database)
        async with self.database.transaction() as connection:
            for store in self._stores():
                await store.create(connection)

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
        if self.database is not None:
            still_owned = {tp.partition for tp in assigned}
            lost = {tp.partition for tp in revoked} - still_owned
            gained = {tp.partition for tp in newly_assigned}
            for store in self._stores():
                await self._take_over(self.database, store, gained, lost)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def _take_over(
        self, database: Database, store: PostgresStore, gained: set[int], lost: set[int]
    ) -> None:
        while not self.should_stop:
            try:
                await store.take_over(database, gained, lost)
            except DatabaseUnavailable as error:
                self.log.warning("%s waits for the database: %s", store.label, error)
                await self.sleep(RETRY_EVERY)
            else:
                return

    async def positions(self, log: str, tps: Iterable[TP]) -> dict[TP, int]:
        """Committed positions in the logs of this identity, as far as there are any."""
        assert self.database is not None
        async with self.database.transaction() as connection:
            rows = await connection.fetch(_query("select_positions"), self.app.conf.id, log)
        found = {TP(row["topic"], row["partition"]): int(row["position"]) for row in rows}
        return {tp: found[tp] for tp in tps if tp in found}

    async def commit(self, log: str, positions: Mapping[TP, int]) -> None:
        """Write changed rows of all tables and advanced positions, in one transaction.

        The events of a row that Postgres refuses become dead letters in the same transaction, and
        the row stays as it was: one event must not keep all others from being committed. Raises
        DatabaseUnavailable, or DatabaseError if it is the database that must be mended.
        """
        assert self.database is not None
        changes = {store: store.take_changes() for store in self._stores()}
        try:
            try:
                async with self.database.transaction() as connection:
                    for store, changed in changes.items():
                        await store.write(connection, changed)
                    await self._advance(connection, log, positions)
            except REFUSED:
                await self._commit_what_is_taken(log, positions, changes)
        except BaseException as error:
            for store, changed in changes.items():
                store.give_back(changed)
            if isinstance(error, asyncpg.PostgresError):
                raise DatabaseError(f"The tables cannot be written ({error})") from error
            raise

    async def _commit_what_is_taken(
        self, log: str, positions: Mapping[TP, int], changes: Mapping[PostgresStore, Changes]
    ) -> None:
        assert self.database is not None
        rows: list[tuple[PostgresStore, Any, Row | None]] = []
        failures: dict[Message, tuple[PostgresStore, Exception]] = {}
        async with self.database.transaction() as connection:
            for store, changed in changes.items():
                for key, error in (await store.write_each(connection, changed)).items():
                    rows.append((store, key, await store.committed_row(connection, key)))
                    failures |= dict.fromkeys(changed[key].causes, (store, error))
            for message, (store, error) in failures.items():
                await self._set_aside(connection, message, store, error)
            await self._advance(connection, log, positions)
        for store, key, row in rows:
            store.restore(key, row)

    async def _set_aside(
        self, connection: Connection, message: Message, store: PostgresStore, error: Exception
    ) -> None:
        assert self.dead_letters is not None
        letter = letter_about(self.app, message, error, agent=store.label)
        number = await self.dead_letters.add(letter, connection=connection)
        self.log.warning("%s: a row was refused; dead letter %s: %s", store.label, number, error)

    async def _advance(self, connection: Connection, log: str, positions: Mapping[TP, int]) -> None:
        await connection.execute(
            _query("advance_positions"),
            self.app.conf.id,
            log,
            [tp.topic for tp in positions],
            [tp.partition for tp in positions],
            [Decimal(position) for position in positions.values()],
        )

    def _stores(self) -> list[PostgresStore]:
        stores = []
        for table in self.values():
            if not isinstance(table.data, PostgresStore):
                continue
            if not isinstance(table, Table) or table.is_global:
                raise ImproperlyConfigured(
                    f"Table {table.name!r}: postgresql:// keeps plain and windowed tables; "
                    'give this one store="memory://"'
                )
            stores.append(table.data)
        return stores


def _query(name: str) -> str:
    return load("connectors.tables", name)
