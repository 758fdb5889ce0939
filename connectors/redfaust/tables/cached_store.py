"""Rows of a table that is larger than memory: some in memory, all in Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from faust.exceptions import ImproperlyConfigured

from redfaust.errors import RowNotLoaded, TableNotWhole
from redfaust.postgres.database import Database
from redfaust.processing.changes import Causes, Changes, Row
from redfaust.tables.cache import Cache, State
from redfaust.tables.declarations import CACHED_ROWS
from redfaust.tables.store import PostgresStore

_MISSING = object()


class CachedStore(PostgresStore):
    """Keeps ``options={"cached_rows": …}`` rows of its table in memory at most.

    A key that is known to have no row counts as one. A key has to be pinned and loaded before it is
    read or written; :class:`~redfaust.tables.prefetch.Prefetch` does so for the keys of events.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.table.window is not None and self.table.window.expires:
            raise ImproperlyConfigured(
                f"Table {self.table_name!r}: Faust lets windows expire by keeping all their keys "
                f"in memory. With {CACHED_ROWS}, leave `expires` out and delete old ones by SQL"
            )
        self._size: int = (self.options or {})[CACHED_ROWS]
        self.cache = self._new_cache()
        """Which rows are in memory. Another one begins when partitions move."""
        self._on_their_way: list[Changes] = []
        """Changes that were taken for a commit which has not ended."""
        self._loading = asyncio.Lock()

    # -- Faust's side ------------------------------------------------------------------------

    def __contains__(self, key: object) -> bool:
        if super().__contains__(key):
            return True
        self._must_be_known(key)
        return False

    def get(self, key: Any, default: Any = None) -> Any:
        row = super().get(key, _MISSING)
        if row is not _MISSING:
            return row
        self._must_be_known(key)
        return default

    def __setitem__(self, key: Any, value: Any) -> None:
        self._must_be_known(key)
        super().__setitem__(key, value)

    def __iter__(self) -> NoReturn:
        raise self._not_whole()

    def __len__(self) -> NoReturn:
        raise self._not_whole()

    def keys(self) -> NoReturn:
        raise self._not_whole()

    def items(self) -> NoReturn:
        raise self._not_whole()

    def values(self) -> NoReturn:
        raise self._not_whole()

    def _must_be_known(self, key: Any) -> None:
        state = self.cache.state(key)
        if state is None or state is State.RESERVED:
            raise RowNotLoaded(
                f"Table {self.table_name!r} has not loaded the row of {key!r}: only those of the "
                f"events' own keys are loaded by themselves. Write `await table.load(key)` before"
            )

    def _not_whole(self) -> TableNotWhole:
        return TableNotWhole(
            f"Table {self.table_name!r} has only some of its rows in memory: "
            f"ask Postgres for all of them, by SQL on {self._name}"
        )

    def apply(self, key: Any, row: Row, causes: Causes | None) -> None:
        super().apply(key, row, causes)
        self.cache.note(key, present=row[2] is not None)

    # -- Postgres's side ---------------------------------------------------------------------

    def start_over(self) -> None:
        super().start_over()
        self.cache = self._new_cache()
        self._on_their_way.clear()

    def let_go(self, partitions: Collection[int]) -> None:
        # Of a key without a row nothing says where it belongs.
        self.cache.drop(lambda key: key not in self._rows or self._rows[key][0] in partitions)

    async def load_partitions(self, database: Database, partitions: Collection[int]) -> None:
        """Forget what is known of rows of these partitions: another worker had them. Rows are
        loaded when their events come; only what is in use is read again."""

        def may_have_changed(key: Any) -> bool:  # one without a row may be of any partition
            return key not in self._rows or self._rows[key][0] in partitions

        async with self._loading:
            self.cache.drop(may_have_changed)
            cache = self.cache
            kept = [key for key in cache.loaded() if may_have_changed(key)]
            found = await self.select(database, kept) if kept else {}
            for key in kept:
                if cache is self.cache and not self._is_unsaved(key) and may_have_changed(key):
                    self._put_found(key, found)

    async def load(self, database: Database, keys: Sequence[Any]) -> None:
        """Load the rows of keys that are pinned and not loaded.

        Raises DatabaseUnavailable, or what Postgres has against the table.
        """
        async with self._loading:
            while wanted := [key for key in keys if self.cache.state(key) is State.RESERVED]:
                cache = self.cache
                found = await self.select(database, wanted)
                if cache is not self.cache:  # partitions moved meanwhile
                    continue
                for key in wanted:
                    self._put_found(key, found)

    def _put_found(self, key: Any, found: Mapping[Any, tuple[int, Any]]) -> None:
        self._forget(key)
        if key in found:
            partition, encoded = found[key]
            self.put(key, encoded, partition)
        self.cache.note(key, present=key in found)

    def take_changes(self) -> Changes:
        changes = super().take_changes()
        if changes.rows:
            self._on_their_way.append(changes)
        return changes

    def restore(self, changes: Changes) -> None:
        if self._arrived(changes):
            super().restore(changes)

    def committed(self, changes: Changes) -> None:
        if self._arrived(changes):
            for key in changes.rows:
                self.cache.release(key)

    def _arrived(self, changes: Changes) -> bool:
        """False for changes that were forgotten since, when partitions moved."""
        before = len(self._on_their_way)
        self._on_their_way = [taken for taken in self._on_their_way if taken is not changes]
        return len(self._on_their_way) < before

    def _new_cache(self) -> Cache:
        return Cache(self._size, self._is_unsaved, self._forget)

    def _is_unsaved(self, key: Any) -> bool:
        return key in self._changes.rows or any(key in taken.rows for taken in self._on_their_way)

    def _forget(self, key: Any) -> None:
        self._rows.pop(key, None)
        self.unreadable.pop(key, None)
