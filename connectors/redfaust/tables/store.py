"""Rows of a table: in memory while this worker owns their partition, in Postgres for good."""

from __future__ import annotations

import copy
import logging
import zlib
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import asyncpg
from faust.exceptions import DecodeError, ImproperlyConfigured
from faust.stores.base import Store
from faust.types import TP, EventT
from faust.types.stores import StoreT
from pydantic import BaseModel
from yarl import URL

from redfaust.errors import RightsMissing, RowUnreadable, TableNotShared, WrongPartition
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.identifiers import identifier, index_name, literal, stored_name
from redfaust.postgres.queries import load
from redfaust.processing.changes import LATER, Causes, Changes, Row
from redfaust.processing.scope import Scope, State, current_scope, scope_of_task
from redfaust.tables.columns import (
    INTEGER,
    LARGEST,
    SMALLEST,
    key_column,
    reason_of,
    set_column,
    value_column,
)
from redfaust.tables.declarations import INDEXES
from redfaust.tables.generated_columns import TypedColumn, generated_columns

if TYPE_CHECKING:
    from redfaust.tables.table import Table

SCHEMA = "schema"
"""The parameter of the store's URL that names the Postgres schema."""

_MISSING, _OPEN = object(), State.OPEN

logger = logging.getLogger(__name__)

UNREADABLE = (TypeError, ValueError, DecodeError)
"""What decoding raises."""

_ATOMS = frozenset({str, int, float, bool, bytes, NoneType})


ROWS_AT_A_TIME = 5_000
"""Rows that one statement writes. The event loop is held while they are packed, for 10 ms or so."""

BYTES_AT_A_TIME = 16 * 1024**2
"""Characters of their values, but for the last row. Postgres takes no text of more than a
gigabyte."""

REPARTITION = (
    "Repartition the stream by the table's key (stream.group_by(…)), have producers place keys by "
    "Kafka's hash (murmur2), or, where all of them place a key into the same partition by another "
    "rule, declare the table with use_partitioner=True"
)
"""What to do where events do not lie in the partition of their key."""


class NoKey(NamedTuple):
    """A key that cannot be read, so that no event can have it."""

    encoded: Any
    """As Postgres has it."""


class RowsElsewhere(WrongPartition):
    """Rows lie in another partition than they were written for."""

    def __init__(self, rows: Mapping[Any, WrongPartition]) -> None:
        self.rows = rows
        """By key, what to say of each."""
        super().__init__(str(next(iter(rows.values()))))


class _Some:
    """Rows that are written by one statement, column by column."""

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.names: list[Any] = []
        """The keys as Postgres has them."""
        self.partitions: list[int] = []
        self.values: list[Any] = []

    def add(self, key: Any, name: Any, partition: int) -> None:
        """Add a row, all but its value."""
        self.keys.append(key)
        self.names.append(name)
        self.partitions.append(partition)

    def slice(self, start: int, end: int) -> _Some:
        """Some of those that have no value."""
        some = _Some()
        some.keys, some.names = self.keys[start:end], self.names[start:end]
        some.partitions = self.partitions[start:end]
        return some


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
        self.unreadable: dict[Any, RowUnreadable] = {}
        """What is wrong with rows that are not of the table's types, by key, or :class:`NoKey`."""
        self._popping: tuple[Scope | None, list[Any]] = None, []
        """Keys that :meth:`popitem` has not come to yet, and the scope that they are for."""
        schema = URL(self.url).query.get(SCHEMA) or self.app.conf.id
        self._schema = identifier(schema)
        self.names = [
            (stored_name(schema), stored_name(self.table_name)),
            *[
                (stored_name(schema), index_name(self.table_name, column))
                for column in ("key", "partition", *(self.options or {}).get(INDEXES, ()))
            ],
        ]
        """Of the table and its indexes, with that of their schema."""
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
            if self.unreadable:
                self._must_be_readable(key)
            return default
        value = row[1]
        return value if type(value) in _ATOMS else own_copy(value)

    def __setitem__(self, key: Any, value: Any) -> None:
        scope = scope_of_task(None)
        row = self._rows.get(key)
        partition = self._table.partition_of_write(key, scope, None if row is None else row[0])
        if row is None:  # a key that is there could be stored
            self._must_be_readable(key)
            self._key.encode(key)
        if type(value) is self._later and SMALLEST <= value <= LARGEST:
            encoded = LATER
        else:
            encoded = self._encode(value)
        scope.write(self, key, (partition, value, encoded))

    def __delitem__(self, key: Any) -> None:
        scope = scope_of_task(None)
        if key not in self:
            # It may have a row that another worker has.
            self._table.partition_of_write(key, scope, self.partition_of(key))
            raise KeyError(key)
        partition, _, _ = self._written().get(key) or self._rows[key]
        self._table.partition_of_deletion(partition, scope)
        scope.write(self, key, (partition, None, None))

    def clear(self) -> None:
        """Delete all rows that this worker has, each once: the mapping's own looks through all that
        are gone for each."""
        for key in list(self):
            del self[key]

    def popitem(self) -> tuple[Any, Any]:
        """Delete any row; returns its key and value. As fast when it is called again and again."""
        scope = current_scope()
        owner, keys = self._popping
        while True:
            if owner is not scope or not keys:
                owner, keys = self._popping = scope, list(self)
                if not keys:
                    raise KeyError("popitem(): the table is empty")
            if (key := keys.pop()) in self:
                value = self[key]
                del self[key]
                return key, value

    def partition_of(self, key: Any) -> int | None:
        """The partition in which a row lies that is in memory; otherwise ``None``."""
        row = self._rows.get(key)
        return None if row is None else row[0]

    def __iter__(self) -> Iterator[Any]:
        self._must_be_whole()
        written = self._written()
        if not written:
            return iter(self._rows)
        gone = {key for key, (_, _, encoded) in written.items() if encoded is None}
        return iter([key for key in {**self._rows, **written} if key not in gone])

    def __len__(self) -> int:
        self._must_be_whole()
        there = self._rows
        return len(there) + sum(
            (encoded is not None) - (key in there)
            for key, (_, _, encoded) in self._written().items()
        )

    def __contains__(self, key: object) -> bool:
        return self.get(key, _MISSING) is not _MISSING

    def _must_be_readable(self, key: Any) -> None:
        if (error := self.unreadable.get(key)) is not None:
            raise error.again()

    def _must_be_whole(self) -> None:
        """An event that looks at all rows waits until all can be read; others do without."""
        if self.unreadable and current_scope() is not None:
            raise next(iter(self.unreadable.values())).again()

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
        RightsMissing if something is, and the role may not create it, and ImproperlyConfigured if
        something else is in the way.
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
                    f"the table {self._name} is missing, or not as the application declares it, "
                    f"and this role may not change that ({error}): run `faust -A … create-tables` "
                    "as the role that owns it, or what that prints with --sql, and start this again"
                ) from error
            except asyncpg.DependentObjectsStillExistError as error:
                [field] = [c.field for c in self._columns() if self._drop(c) == statement]
                raise ImproperlyConfigured(
                    f"Table {self.table_name!r}: the type of the field {field!r} has changed, and "
                    f"its column cannot be made anew ({error.detail}): drop that, start again, and "
                    "create it anew"
                ) from error
        return statements

    async def missing(self, connection: Connection) -> list[str]:
        """The statements that create what is missing of the table, in their order. Columns whose
        field has changed are made anew. Raises ImproperlyConfigured if something else is in the
        way."""
        (schema, table), *_ = self.names
        indexes = {
            index_name(self.table_name, column): column
            for column in ("partition", *(self.options or {}).get(INDEXES, ()))
        }
        found = await connection.fetchrow(self._sql("select_missing"), schema, table, list(indexes))
        assert found is not None
        lacks_schema, kind, without = found
        if kind not in {None, "r", "p"}:
            raise ImproperlyConfigured(
                f"Table {self.table_name!r}: something else has the name {self._name}, an index or "
                "a view: rename the table, or that"
            )
        rows = await connection.fetch(self._sql("select_columns"), schema, table)
        primary_key = identifier(index_name(self.table_name, "key"))
        return [
            *([self._sql("create_schema")] if lacks_schema else []),
            *([self._sql("create_table", primary_key=primary_key)] if kind is None else []),
            *self._missing_columns({row["name"]: row for row in rows}),
            *(
                self._sql("create_index", index=identifier(name), column=identifier(indexes[name]))
                for name in without
            ),
        ]

    def _missing_columns(self, present: Mapping[str, asyncpg.Record]) -> Iterator[str]:
        """The statements that add columns, and make those anew whose field has changed."""
        for column in self._columns():
            if (there := present.get(column.stored_name)) is not None:
                if there["definition"] == column.definition:
                    continue
                if not there["is_generated"]:
                    raise ImproperlyConfigured(
                        f"Table {self.table_name!r}: {self._name} has a column {column.name} of "
                        "its own, and its model a field of that name: rename one of them"
                    )
                yield self._drop(column)
            yield self._sql(
                "add_column",
                column=column.name,
                column_type=column.sql_type,
                expression=column.expression,
            )
            definition = literal(column.definition)
            yield self._sql("comment_on_column", column=column.name, definition=definition)

    def _columns(self) -> list[TypedColumn]:
        return [] if self._table.holds_sets else generated_columns(self.value_type)

    def _drop(self, column: TypedColumn) -> str:
        return self._sql("drop_column", column=column.name)

    def start_over(self) -> None:
        """Forget all rows, and what was not committed of them."""
        self._rows.clear()
        self.unreadable.clear()
        self._changes = Changes()

    def let_go(self, partitions: Collection[int]) -> None:
        """Forget the rows of partitions; all changes of theirs are committed."""
        for key in [key for key, row in self._rows.items() if row[0] in partitions]:
            del self._rows[key]
        for key in [k for k, noted in self.unreadable.items() if noted.partition in partitions]:
            del self.unreadable[key]

    async def load_partitions(self, database: Database, partitions: Collection[int]) -> None:
        """Load the rows of partitions. Raises DatabaseUnavailable; then it may be repeated."""
        async with database.transaction() as connection:
            rows = connection.cursor(self._sql("select_rows"), list(partitions), prefetch=1000)
            async for encoded, value, partition in rows:
                try:
                    key = self._key.decode(encoded)
                except UNREADABLE as error:
                    self._note_unreadable(NoKey(encoded), partition, error)
                else:
                    self.put(key, value, partition)

    def put(self, key: Any, encoded: Any, partition: int) -> None:
        """Have a row in memory that is committed, its value as Postgres has it. One that cannot be
        read is noted as such."""
        try:
            self._rows[key] = (partition, self._value.decode(encoded), LATER)
        except UNREADABLE as error:
            self._note_unreadable(key, partition, error)

    def _note_unreadable(self, key: Any, partition: int, error: Exception) -> None:
        before = self.unreadable.get(key)
        self.unreadable[key] = noted = RowUnreadable(
            f"{self._name} has a row that is not of the table's types, that of "
            f"{key.encoded if isinstance(key, NoKey) else key!r} "
            f"({reason_of(error)}): correct it by SQL, or the types that the table is given",
            partition,
            pause=RowUnreadable.pause if before is None else before.longer_pause(),
        )
        if before is None:
            logger.error("%s. Its events are parked until then", noted)

    async def read_again(self, database: Database) -> None:
        """Read those rows again that could not be. Raises DatabaseUnavailable."""
        noted = {k: error for k, error in self.unreadable.items() if not isinstance(k, NoKey)}
        found = await self.select(database, list(noted))
        for key, error in noted.items():
            if self.unreadable.get(key) is not error:  # partitions moved meanwhile
                continue
            partition, encoded = found.get(key, (None, None))
            if partition == error.partition:
                self.put(key, encoded, error.partition)
            if key in self._rows or partition != error.partition:
                del self.unreadable[key]

    async def select(self, database: Database, keys: Sequence[Any]) -> dict[Any, tuple[int, Any]]:
        """Partition and encoded value of those rows of keys that there are."""
        asked = [(key, encoded) for key in keys if (encoded := self._encoded(key)) is not None]
        async with database.transaction() as connection:
            await connection.execute(self._sql("look_up_by_index"))
            rows = await connection.fetch(
                self._sql("select_rows_of_keys"), [encoded for _, encoded in asked]
            )
        return {asked[number - 1][0]: (partition, value) for number, value, partition in rows}

    def _encoded(self, key: Any) -> Any:
        """``None`` for a key that Postgres cannot have, and so has no row."""
        try:
            return self._key.encode(key)
        except (TypeError, ValueError):
            return None

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

    def restore(self, changes: Changes) -> None:
        """Changes that could not be written. Newer ones of the same keys stay."""
        self._changes = changes.before(self._changes)

    def committed(self, changes: Changes) -> None:
        """Changes that are in the database for good. All rows being in memory, nothing is to do."""

    async def write(self, connection: Connection, rows: Mapping[Any, Row]) -> None:
        """Write rows within a transaction, a part of them at a time.

        Raises RowsElsewhere for those that lie in another partition than they are written for:
        another worker may have them in memory.
        """
        encode, as_it_is = self._key.encode, self._key.as_it_is
        upserted, deleted, size, elsewhere = _Some(), _Some(), 0, dict[Any, WrongPartition]()
        for key, (partition, value, encoded) in rows.items():
            try:
                name = key if type(key) is as_it_is else encode(key)
            except (TypeError, ValueError) as error:  # though it is equal to one that was taken
                raise asyncpg.DataError(str(error)) from error
            if encoded is None:
                deleted.add(key, name, partition)
                continue
            text = str(value) if encoded is LATER else encoded
            upserted.add(key, name, partition)
            upserted.values.append(text)
            size += len(text)
            if len(upserted.keys) >= ROWS_AT_A_TIME or size >= BYTES_AT_A_TIME:
                elsewhere |= await self._upsert(connection, upserted)
                upserted, size = _Some(), 0
        if upserted.keys:
            elsewhere |= await self._upsert(connection, upserted)
        for start in range(0, len(deleted.keys), ROWS_AT_A_TIME):
            some = deleted.slice(start, start + ROWS_AT_A_TIME)
            found = await connection.fetch(self._sql("delete_rows"), some.names, some.partitions)
            elsewhere |= self._lie_elsewhere(some, found)
        if elsewhere:
            raise RowsElsewhere(elsewhere)

    async def _upsert(self, connection: Connection, some: _Some) -> dict[Any, WrongPartition]:
        """Returns those that lie in another partition, and so were not written."""
        done = await connection.execute(
            self._sql("upsert_rows"),
            self._key.pack(some.names),
            self._value.pack(some.values),
            INTEGER.pack(some.partitions),
        )
        if done == f"INSERT 0 {len(some.keys)}":
            return {}
        found = await connection.fetch(self._sql("select_elsewhere"), some.names, some.partitions)
        return self._lie_elsewhere(some, found)

    def _lie_elsewhere(
        self, some: _Some, found: Sequence[asyncpg.Record]
    ) -> dict[Any, WrongPartition]:
        return {
            some.keys[number - 1]: WrongPartition(
                f"the row of {some.keys[number - 1]!r} lies in partition {partition}, and was "
                f"written for an event of partition {some.partitions[number - 1]}. {REPARTITION}"
            )
            for number, partition in found
        }

    def _sql(self, name: str, **more: str) -> str:
        return load("redfaust.tables", name).format(
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
