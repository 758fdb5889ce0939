"""The tables of an application, and the database that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg
from faust.exceptions import ImproperlyConfigured
from faust.tables.manager import TableManager as FaustTableManager
from faust.types import TP, Message
from yarl import URL

from connectors.errors import DatabaseError, DatabaseUnavailable
from connectors.postgres.database import Connection, Database
from connectors.postgres.migrate import migrate_connectors
from connectors.postgres.queries import load
from connectors.processing.dead_letters import DeadLetters, NewDeadLetter, letter_about
from connectors.processing.watermark import Progress, Readers
from connectors.tables.store import REFUSED, SCHEMA, Changes, PostgresStore, Row
from connectors.tables.table import Table

POSTGRES = frozenset({"postgresql", "postgres"})
"""Schemes of the URLs that mean Postgres."""

RETRY_EVERY = 0.5
"""Seconds between two attempts to load a table, or to commit, while the database is away."""


class Batch(NamedTuple):
    """What goes into one commit beside the progress."""

    number: UUID
    """Drawn for this batch, so that one whose commit was not answered can be recognised."""
    changes: list[tuple[PostgresStore, Changes]]
    letters: list[NewDeadLetter]


class Refused(NamedTuple):
    """A row that Postgres did not take, and what it has in its place."""

    store: PostgresStore
    key: Any
    row: Row | None


class Committed(NamedTuple):
    """Where a partition is to be continued, and who has done what ahead of that."""

    position: int
    ahead: Mapping[int, Readers]


class TableManager(FaustTableManager):
    """Faust's table manager, which also keeps tables that live in Postgres."""

    mundane_level = "debug"

    database: Database | None = None
    dead_letters: DeadLetters | None = None

    def __post_init__(self) -> None:
        self._buried: list[NewDeadLetter] = []

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

    async def committed(self, log: str, tps: Iterable[TP]) -> dict[TP, Committed]:
        """What is committed in the logs of this identity, as far as there is any."""
        assert self.database is not None
        async with self.database.transaction() as connection:
            rows = await connection.fetch(_query("select_positions"), self.app.conf.id, log)
        found = {
            TP(row["topic"], row["partition"]): Committed(
                int(row["position"]), _decode_ahead(row["ahead"])
            )
            for row in rows
        }
        return {tp: found[tp] for tp in tps if tp in found}

    def bury(self, letter: NewDeadLetter) -> None:
        """Keep a failed event, with the next commit."""
        self._buried.append(letter)

    def take(self) -> Batch:
        """What finished events have done since the last call. It goes into :meth:`commit`, or
        back by :meth:`give_back` if that fails."""
        letters, self._buried = self._buried, []
        changes = [(store, store.take_changes()) for store in self._stores()]
        return Batch(uuid4(), [(store, changed) for store, changed in changes if changed], letters)

    def give_back(self, batch: Batch) -> None:
        """A batch that was not committed."""
        self._buried = batch.letters + self._buried
        for store, changed in batch.changes:
            store.give_back(changed)

    async def commit(
        self,
        log: str,
        batch: Batch,
        progress: Mapping[TP, Progress],
        owned: Callable[[], bool],
    ) -> bool:
        """Write changed rows of all tables, dead letters and progress, in one transaction.

        While the database is away this waits. A commit whose answer was lost may have happened;
        that is looked up before it is repeated. False: the partitions are not ``owned`` any more.

        The events of a row that Postgres refuses become dead letters in the same transaction, and
        the row stays as it was: one event must not keep all others from being committed. Raises
        DatabaseError if it is the database that must be mended.
        """
        assert self.database is not None
        in_doubt = row_by_row = False
        while owned():
            refused: list[Refused] = []
            try:
                async with self.database.transaction() as connection:
                    if not (in_doubt and await self._has(connection, batch)):
                        if row_by_row:
                            refused = await self._write_what_is_taken(connection, batch)
                        else:
                            await self._write(connection, batch)
                        await self._advance(connection, log, batch, progress)
            except REFUSED as error:
                if row_by_row:
                    raise DatabaseError(f"The tables cannot be written ({error})") from error
                row_by_row = True
            except DatabaseUnavailable as error:
                in_doubt = True
                self.log.warning("The commit waits: %s", error)
                await asyncio.sleep(RETRY_EVERY)
            except asyncpg.PostgresError as error:
                raise DatabaseError(f"The tables cannot be written ({error})") from error
            else:
                for store, key, row in refused:
                    store.restore(key, row)
                return True
        return False

    async def _has(self, connection: Connection, batch: Batch) -> bool:
        return bool(await connection.fetchval(_query("find_batch"), self.app.conf.id, batch.number))

    async def _write(self, connection: Connection, batch: Batch) -> None:
        for store, changed in batch.changes:
            await store.write(connection, changed)
        for letter in batch.letters:
            await self._keep(connection, letter)

    async def _write_what_is_taken(self, connection: Connection, batch: Batch) -> list[Refused]:
        rows: list[Refused] = []
        failures: dict[Message, tuple[PostgresStore, Exception]] = {}
        for store, changed in batch.changes:
            for key, error in (await store.write_each(connection, changed)).items():
                rows.append(Refused(store, key, await store.committed_row(connection, key)))
                failures |= dict.fromkeys(changed[key].causes, (store, error))
        for message, (store, error) in failures.items():
            self.log.warning("%s: a row was refused: %s", store.label, error)
            letter = letter_about(self.app, message, error, agent=store.label)
            await self._keep(connection, letter)
        for letter in batch.letters:
            await self._keep(connection, letter)
        return rows

    async def _keep(self, connection: Connection, letter: NewDeadLetter) -> None:
        assert self.dead_letters is not None
        await self.dead_letters.add(letter, connection=connection)

    async def _advance(
        self, connection: Connection, log: str, batch: Batch, progress: Mapping[TP, Progress]
    ) -> None:
        await connection.execute(
            _query("advance_positions"),
            self.app.conf.id,
            log,
            [tp.topic for tp in progress],
            [tp.partition for tp in progress],
            [Decimal(p.advance.position) for p in progress.values()],
            [_encode_ahead(p.ahead) for p in progress.values()],
            batch.number,
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


def _encode_ahead(ahead: Mapping[int, Readers]) -> dict[str, list[str]]:
    # Offsets are larger than what JSON's numbers are good for.
    return {str(offset): sorted(readers) for offset, readers in ahead.items()}


def _decode_ahead(ahead: Mapping[str, list[str]]) -> dict[int, Readers]:
    return {int(offset): frozenset(readers) for offset, readers in ahead.items()}


def _query(name: str) -> str:
    return load("connectors.tables", name)
