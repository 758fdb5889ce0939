"""Rows of a table: in memory while this worker owns their partition, in Postgres for good."""

from __future__ import annotations

import copy
import zlib
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
)
from types import NoneType
from typing import Any

from faust.stores.base import Store
from faust.types import TP, EventT
from faust.types.stores import StoreT
from yarl import URL

from connectors.postgres.database import REFUSED, Connection, Database
from connectors.postgres.identifiers import identifier
from connectors.postgres.queries import load
from connectors.processing.scope import Cause, Change, Changes, Row, current_scope
from connectors.tables.columns import key_column, value_column
from connectors.tables.typed import typed_columns

SCHEMA = "schema"
"""The parameter of the store's URL that names the Postgres schema."""


INDEXES = "indexes"
"""The option of a table that names the columns to have an index each."""


_NOTHING: Mapping[Any, Row] = {}

_MISSING = object()

_CHANGEABLE = (dict, list, set)
"""Rows that are copied for whoever reads them."""

_ATOMS = frozenset({str, int, float, bool, bytes, NoneType})


class PostgresStore(Store[Any, Any], StoreT[Any, Any]):
    """Registered for ``postgresql://``.

    The schema is the application's id unless the URL says ``?schema=…``; a table's option
    ``{"indexes": ["column", …]}`` asks for indexes. Changes are kept until
    :meth:`write` puts them into a transaction of the commit.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: dict[Any, Any] = {}
        self._partition_of: dict[Any, int] = {}
        self._changes: Changes = {}
        schema = URL(self.url).query.get(SCHEMA) or self.app.conf.id
        self._schema = identifier(schema)
        self._name = f"{self._schema}.{identifier(self.table_name)}"
        self._key = key_column(self.key_type, windowed=self.table.window is not None)
        self._value = value_column(
            self.value_type, self.value_serializer, self._encode_value, self._decode_value
        )

        self._encode = self._value.encode

    # Faust's is a function in Python, and a store is a key of what each event writes.
    __hash__ = object.__hash__

    # -- Faust's side ------------------------------------------------------------------------

    # Everything goes through the methods below, so that each sees the scope of the current event.
    items = MutableMapping.items
    keys = MutableMapping.keys
    values = MutableMapping.values
    update = MutableMapping.update
    clear = MutableMapping.clear

    def __getitem__(self, key: Any) -> Any:
        row = self.get(key, _MISSING)
        if row is _MISSING:
            raise KeyError(key)
        return row

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of a key as the current event sees it."""
        scope = current_scope()
        if scope is not None and scope.writes is not None:
            written = scope.writes.get(self, _NOTHING).get(key)
            if written is not None:
                _, value, encoded = written
                return default if encoded is None else value
        value = self._rows.get(key, default)
        return _own_copy(value) if isinstance(value, _CHANGEABLE) else value

    def __setitem__(self, key: Any, value: Any) -> None:
        partition: int = self.table.partition_for_key(key)  # type: ignore[assignment]
        if key not in self._rows:  # a key that is there could be stored
            self._key.encode(key)
        self._write(key, (partition, value, self._encode(value)))

    def __delitem__(self, key: Any) -> None:
        if key not in self:
            raise KeyError(key)
        written = self._written().get(key)
        partition = self._partition_of[key] if written is None else written[0]
        self._write(key, (partition, None, None))

    def __iter__(self) -> Iterator[Any]:
        written = self._written()
        if not written:
            return iter(self._rows)
        gone = {key for key, (_, _, encoded) in written.items() if encoded is None}
        return iter([key for key in {**self._rows, **written} if key not in gone])

    def __len__(self) -> int:
        return sum(1 for _ in self) if self._written() else len(self._rows)

    def __contains__(self, key: object) -> bool:
        return self.get(key, _MISSING) is not _MISSING

    def _written(self) -> Mapping[Any, Row]:
        scope = current_scope()
        if scope is None or scope.writes is None:
            return _NOTHING
        return scope.writes.get(self, _NOTHING)

    def _write(self, key: Any, row: Row) -> None:
        scope = current_scope()
        if scope is None:  # what Faust does by itself, such as forgetting expired windows
            self.apply({key: row}, ())
        elif scope.writes is None:
            scope.writes = {self: {key: row}}
        else:
            scope.writes.setdefault(self, {})[key] = row

    def apply(self, rows: Mapping[Any, Row], causes: Iterable[Cause]) -> None:
        """Make rows part of the state, and of the next commit."""
        for key, (partition, value, encoded) in rows.items():
            change = self._changes.get(key)
            if change is None:
                change = self._changes[key] = Change(partition, encoded)
            else:
                change.partition, change.encoded = partition, encoded
            change.causes += causes
            if encoded is None:
                self._rows.pop(key, None)
                self._partition_of.pop(key, None)
            else:
                self._rows[key] = value
                self._partition_of[key] = partition

    def reset_state(self) -> None:
        """Faust's ``reset`` command forgets local state; here the state is Postgres's."""

    def persisted_offset(self, tp: TP) -> int | None:  # noqa: ARG002
        return None

    def apply_changelog_batch(
        self,
        batch: Iterable[EventT[Any]],
        to_key: Callable[[Any], Any],
        to_value: Callable[[Any], Any],
    ) -> None:
        raise NotImplementedError("Postgres needs no changelog")

    async def backup_partition(
        self,
        tp: TP | int,
        flush: bool = True,
        purge: bool = False,
        keep: int = 1,
    ) -> None:
        raise NotImplementedError("Back up the database: pg_dump knows how")

    def restore_backup(self, tp: TP | int, latest: bool = True, backup_id: int = 0) -> None:
        raise NotImplementedError("Restore the database: pg_restore knows how")

    @property
    def label(self) -> str:
        return f"PostgresStore: {self._name}"

    # -- Postgres's side ---------------------------------------------------------------------

    async def create(self, connection: Connection) -> None:
        """Create the table unless it exists. Safe when several workers start at once."""
        await connection.execute(self._sql("lock_schema"), zlib.crc32(self._name.encode()))
        if self._schema != "public":
            await connection.execute(self._sql("create_schema"))
        await connection.execute(self._sql("create_table"))
        await self._add_typed_columns(connection)
        for column in ("partition", *(self.options or {}).get(INDEXES, ())):
            index = identifier(f"{self.table_name}_{column}")
            await connection.execute(
                self._sql("create_index", index=index, column=identifier(column))
            )

    async def _add_typed_columns(self, connection: Connection) -> None:
        rows = await connection.fetch(self._sql("select_columns"), self._name)
        present = {row["attname"] for row in rows}
        for column in typed_columns(self.value_type):
            if column.field not in present:
                await connection.execute(
                    self._sql(
                        "add_column",
                        column=column.name,
                        column_type=column.sql_type,
                        expression=column.expression,
                    )
                )

    def start_over(self) -> None:
        """Forget all rows, and what was not committed of them."""
        self._rows.clear()
        self._partition_of.clear()
        self._changes = {}

    def let_go(self, partitions: Collection[int]) -> None:
        """Forget the rows of partitions; all changes of theirs are committed."""
        for key in [k for k, partition in self._partition_of.items() if partition in partitions]:
            del self._rows[key], self._partition_of[key]

    async def load_partitions(self, database: Database, partitions: Collection[int]) -> None:
        """Load the rows of partitions. Raises DatabaseUnavailable; then it may be repeated."""
        async with database.transaction() as connection:
            rows = connection.cursor(self._sql("select_rows"), list(partitions), prefetch=1000)
            async for encoded, value, partition in rows:
                key = self._key.decode(encoded)
                self._rows[key] = self._value.decode(value)
                self._partition_of[key] = partition

    def take_changes(self) -> Changes:
        """The changes since the last call; give them to :meth:`write`, or back if that fails."""
        changes, self._changes = self._changes, {}
        return changes

    def give_back(self, changes: Changes) -> None:
        """Changes that could not be written. Newer ones of the same keys stay."""
        for key, newer in self._changes.items():
            if (older := changes.get(key)) is not None:
                newer.causes[:0] = older.causes
        self._changes = {**changes, **self._changes}

    def committed(self, changes: Changes) -> None:
        """Changes that are in the database for good. All rows being in memory, nothing is to do."""

    async def write(self, connection: Connection, changes: Changes) -> None:
        """Write changes within a transaction."""
        encode = self._key.encode
        kept = [
            (encode(key), change.encoded, change.partition)
            for key, change in changes.items()
            if change.encoded is not None
        ]
        gone = [encode(key) for key, change in changes.items() if change.encoded is None]
        if kept:
            await connection.execute(self._sql("upsert_rows"), *map(list, zip(*kept, strict=True)))
        if gone:
            await connection.execute(self._sql("delete_rows"), gone)

    async def find_refused(self, connection: Connection, changes: Changes) -> dict[Any, Exception]:
        """The keys of changes that Postgres does not take, and why. Nothing is written."""
        if not changes:
            return {}
        attempt = connection.transaction()  # a savepoint
        await attempt.start()
        try:
            await self.write(connection, changes)
        except REFUSED as error:
            refusal = error
        else:
            return {}
        finally:
            await attempt.rollback()
        keys = list(changes)
        if len(keys) == 1:
            return {keys[0]: refusal}
        middle = len(keys) // 2
        refused: dict[Any, Exception] = {}
        for half in (keys[:middle], keys[middle:]):
            refused |= await self.find_refused(connection, {key: changes[key] for key in half})
        return refused

    def _sql(self, name: str, **more: str) -> str:
        return load("connectors.tables", name).format(
            table=self._name,
            schema=self._schema,
            key_type=self._key.sql_type,
            key_array=self._key.wire_type,
            key_cast=self._key.cast,
            value_type=self._value.sql_type,
            value_array=self._value.wire_type,
            value_cast=self._value.cast,
            **more,
        )


def _own_copy(row: Any) -> Any:
    """What an agent may change in place without changing the table, should it fail then.

    A row is a tree, since it is stored as one: that copies four times as fast as a graph.
    """
    kind = type(row)
    if kind is dict:
        return {k: item if type(item) in _ATOMS else _own_copy(item) for k, item in row.items()}
    if kind is list:
        return [item if type(item) in _ATOMS else _own_copy(item) for item in row]
    return copy.deepcopy(row)
