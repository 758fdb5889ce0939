"""Rows of a table: in memory while this worker owns their partition, in Postgres for good."""

from __future__ import annotations

import copy
import zlib
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
)
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

import asyncpg
from faust.exceptions import DecodeError
from faust.stores.base import Store
from faust.types import TP, EventT
from faust.types.stores import StoreT
from pydantic import BaseModel
from yarl import URL

from connectors.errors import RightsMissing, RowUnreadable, TableNotShared
from connectors.postgres.database import REFUSED, Connection, Database
from connectors.postgres.identifiers import identifier
from connectors.postgres.queries import load
from connectors.processing.changes import LATER, Causes, Changes, Row
from connectors.processing.scope import Scope, State, current_scope, scope_of_task
from connectors.tables.columns import (
    INTEGER,
    LARGEST,
    SMALLEST,
    key_column,
    reason_of,
    set_column,
    value_column,
)
from connectors.tables.typed import typed_columns

if TYPE_CHECKING:
    from connectors.tables.table import Table

SCHEMA = "schema"
"""The parameter of the store's URL that names the Postgres schema."""


INDEXES = "indexes"
"""The option of a table that names the columns to have an index each."""


_MISSING, _OPEN = object(), State.OPEN

UNREADABLE = (TypeError, ValueError, DecodeError)
"""What decoding raises."""

_ATOMS = frozenset({str, int, float, bool, bytes, NoneType})


class PostgresStore(Store[Any, Any], StoreT[Any, Any]):
    """Registered for ``postgresql://``.

    The schema is the application's id unless the URL says ``?schema=…``; a table's option
    ``{"indexes": ["column", …]}`` asks for indexes. Changes are kept until
    :meth:`write` puts them into a transaction of the commit.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = cast("Table", self.table)
        self._rows: dict[Any, Row] = {}
        self._changes = Changes()
        self._schema_name = URL(self.url).query.get(SCHEMA) or self.app.conf.id
        self._schema = identifier(self._schema_name)
        self._name = f"{self._schema}.{identifier(self.table_name)}"
        self._key = key_column(self.key_type, windowed=self.table.window is not None)
        if getattr(self.table, "holds_sets", False):  # Faust's own tables are refused later
            self._value = set_column(self.value_type)
        else:
            self._value = value_column(
                self.value_type, self.value_serializer, self._encode_value, self._decode_value
            )

        self._encode = self._value.encode
        self._later = int if self._value.takes_integers else None
        """The type of values that are encoded when they are committed."""

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
        scope = scope_of_task(None)
        if type(scope) is Scope:
            if scope.table is not None:  # so it is open
                if (written := scope.row(self, key)) is not None:
                    return default if written[2] is None else written[1]
            elif scope.outlet is not None and scope.state is _OPEN:
                raise not_shared(self.table_name)
        row = self._rows.get(key)
        if row is None:
            return default
        value = row[1]
        return value if type(value) in _ATOMS else own_copy(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        scope = scope_of_task(None)
        partition = self._table.partition_of_write(key, scope)
        if key not in self._rows:  # a key that is there could be stored
            self._key.encode(key)
        if type(value) is self._later and SMALLEST <= value <= LARGEST:
            encoded = LATER
        else:
            encoded = self._encode(value)
        scope.write(self, key, (partition, value, encoded))

    def __delitem__(self, key: Any) -> None:
        if key not in self:
            raise KeyError(key)
        partition, _, _ = self._written().get(key) or self._rows[key]
        row = (partition, None, None)
        scope = current_scope()
        if scope is None:  # what Faust does by itself, such as forgetting expired windows
            self.apply(key, row, None)
        else:
            scope.write(self, key, row)

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
        if scope is None:
            return {}
        if scope.outlet is not None:
            raise not_shared(self.table_name)
        return scope.rows(self)

    def apply(self, key: Any, row: Row, causes: Causes | None) -> None:
        """Make a row part of the state, and of the next commit."""
        changes = self._changes
        changes.rows[key] = row
        changes.writes.append((key, causes))
        if row[2] is LATER:
            self._rows[key] = row
        elif row[2] is None:
            self._rows.pop(key, None)
        else:  # what goes into the database need not stay in memory
            self._rows[key] = (row[0], row[1], LATER)

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

    async def create(self, connection: Connection) -> list[str]:
        """Create what is missing of the table, and return the statements that did. Safe when
        several workers start at once.

        Where nothing is missing, a role that may read and write the table is enough. Raises
        RightsMissing if something is, and the role may not create it.
        """
        if not await self.missing(connection):
            return []
        await connection.execute(self._sql("lock_schema"), zlib.crc32(self._schema.encode()))
        statements = await self.missing(connection)
        for statement in statements:
            try:
                await connection.execute(statement)
            except asyncpg.InsufficientPrivilegeError as error:
                raise RightsMissing(
                    f"the table {self._name} is not as the application declares it, and this role "
                    f"may not change that ({error}): run `faust -A … create-tables` as the role "
                    "that owns it, or what that prints with --sql, and start this again"
                ) from error
        return statements

    async def missing(self, connection: Connection) -> list[str]:
        """The statements that create what is missing of the table, in their order."""
        typed = {} if self._table.holds_sets else self._typed_columns()
        indexes = {
            f"{self.table_name}_{column}": column
            for column in ("partition", *(self.options or {}).get(INDEXES, ()))
        }
        found = await connection.fetchrow(
            self._sql("select_missing"),
            self._schema_name,
            self.table_name,
            list(typed),
            list(indexes),
        )
        assert found is not None
        lacks_schema, lacks_table, columns, without = found
        return [
            *([self._sql("create_schema")] if lacks_schema else []),
            *([self._sql("create_table")] if lacks_table else []),
            *(typed[column] for column in columns),
            *(
                self._sql("create_index", index=identifier(name), column=identifier(indexes[name]))
                for name in without
            ),
        ]

    def _typed_columns(self) -> dict[str, str]:
        """By name, the statement that adds each."""
        return {
            column.field: self._sql(
                "add_column",
                column=column.name,
                column_type=column.sql_type,
                expression=column.expression,
            )
            for column in typed_columns(self.value_type)
        }

    def start_over(self) -> None:
        """Forget all rows, and what was not committed of them."""
        self._rows.clear()
        self._changes = Changes()

    def let_go(self, partitions: Collection[int]) -> None:
        """Forget the rows of partitions; all changes of theirs are committed."""
        for key in [key for key, row in self._rows.items() if row[0] in partitions]:
            del self._rows[key]

    async def load_partitions(self, database: Database, partitions: Collection[int]) -> None:
        """Load the rows of partitions. Raises DatabaseUnavailable; then it may be repeated.

        Raises RowUnreadable for one that is not of the table's types.
        """
        async with database.transaction() as connection:
            rows = connection.cursor(self._sql("select_rows"), list(partitions), prefetch=1000)
            async for encoded, value, partition in rows:
                try:
                    self.put(self._key.decode(encoded), value, partition)
                except UNREADABLE as error:
                    raise self._unreadable(encoded, error) from None

    def put(self, key: Any, encoded: Any, partition: int) -> None:
        """Have a row in memory that is committed, its value as Postgres has it."""
        self._rows[key] = (partition, self._value.decode(encoded), LATER)

    def _unreadable(self, key: Any, error: Exception) -> RowUnreadable:
        return RowUnreadable(
            f"{self._name} has a row that is not of the table's types, that of {key!r} "
            f"({reason_of(error)}): correct it by SQL, or the types that the table is given"
        )

    async def places(self, connection: Connection) -> AsyncIterator[tuple[Any, int]]:
        """Each key with its partition, as they are now, within a transaction."""
        async for encoded, partition in connection.cursor(
            self._sql("select_places"), prefetch=1000
        ):
            yield self._key.decode(encoded), partition

    async def move(self, connection: Connection, partitions: Mapping[Any, int]) -> None:
        """Put rows into other partitions, by key, within a transaction."""
        await connection.execute(
            self._sql("move_rows"),
            [self._key.encode(key) for key in partitions],
            list(partitions.values()),
        )

    async def delete_all(self, connection: Connection) -> int:
        """Delete all rows, within a transaction; returns how many there were."""
        done = await connection.execute(self._sql("delete_all_rows"))
        return int(done.rpartition(" ")[2])

    def take_changes(self) -> Changes:
        """The changes since the last call; give their rows to :meth:`write`, or all back if that
        fails."""
        changes, self._changes = self._changes, Changes()
        return changes

    def give_back(self, changes: Changes) -> None:
        """Changes that could not be written. Newer ones of the same keys stay."""
        self._changes = changes.before(self._changes)

    def committed(self, changes: Changes) -> None:
        """Changes that are in the database for good. All rows being in memory, nothing is to do."""

    async def write(self, connection: Connection, rows: Mapping[Any, Row]) -> None:
        """Write rows within a transaction."""
        encode, as_it_is = self._key.encode, self._key.as_it_is
        keys, values, partitions, gone = [], [], [], []
        for key, (partition, value, encoded) in rows.items():
            try:
                name = key if type(key) is as_it_is else encode(key)
            except (TypeError, ValueError) as error:  # though it is equal to one that was taken
                raise asyncpg.DataError(str(error)) from error
            if encoded is None:
                gone.append(name)
                continue
            keys.append(name)
            values.append(str(value) if encoded is LATER else encoded)
            partitions.append(partition)
        if keys:
            await connection.execute(
                self._sql("upsert_rows"),
                self._key.pack(keys),
                self._value.pack(values),
                INTEGER.pack(partitions),
            )
        if gone:
            await connection.execute(self._sql("delete_rows"), gone)

    async def find_refused(
        self, connection: Connection, rows: Mapping[Any, Row]
    ) -> dict[Any, Exception]:
        """The keys of rows that Postgres does not take, and why. Nothing is written."""
        if not rows:
            return {}
        await connection.execute(self._sql("begin_attempt"))
        try:
            await self.write(connection, rows)
        except REFUSED as error:
            refusal = error
        else:
            return {}
        finally:
            await connection.execute(self._sql("undo_attempt"))
            await connection.execute(self._sql("end_attempt"))
        keys = list(rows)
        if len(keys) == 1:
            return {keys[0]: refusal}
        middle = len(keys) // 2
        refused: dict[Any, Exception] = {}
        for half in (keys[:middle], keys[middle:]):
            refused |= await self.find_refused(connection, {key: rows[key] for key in half})
        return refused

    def _sql(self, name: str, **more: str) -> str:
        return load("connectors.tables", name).format(
            table=self._name,
            schema=self._schema,
            key_type=self._key.sql_type,
            key_array=self._key.wire_type,
            key_cast=self._key.cast,
            value_type=self._value.sql_type,
            value_cast=self._value.cast,
            keys=self._key.unpack.format("$1"),
            values=self._value.unpack.format("$2"),
            partitions=INTEGER.unpack.format("$3"),
            **more,
        )


def not_shared(table: str) -> TableNotShared:
    """What to say to an agent that uses a table and owns none of its partitions."""
    return TableNotShared(
        f"Table {table!r} can neither be read nor written by an agent with shared delivery: its "
        "rows belong to whoever owns their partition. Send an event to an ordered agent, and let "
        "that one write; read by SQL"
    )


def own_copy(row: Any) -> Any:
    """What an agent may change in place without changing the table, should it fail then.

    A row is a tree, since it is stored as one: that copies four times as fast as a graph.
    """
    kind = type(row)
    if kind is dict:
        return {k: item if type(item) in _ATOMS else own_copy(item) for k, item in row.items()}
    if kind is list:
        return [item if type(item) in _ATOMS else own_copy(item) for item in row]
    if isinstance(row, BaseModel) and row.model_config.get("frozen"):
        return row
    return copy.deepcopy(row)
