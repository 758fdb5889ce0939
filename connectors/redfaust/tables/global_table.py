"""Tables of which each worker has all rows.

They lie in a changelog topic, also where the application's other tables are in Postgres, and in the
memory of each worker, who reads that topic to its end before its agents begin, and on from there::

    event writes ──▶ OPEN ──finished──▶ AHEAD ──its commit──▶ (changelog) ──read back──▶ (the rows)
                      └── fails ──▶ (never happened)

What is ahead of the changelog is seen by this worker alone, so that an event finds what the one
before it has written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from itertools import count
from typing import Any, NamedTuple, cast
from uuid import uuid4

from faust import stores
from faust.stores.memory import Store as MemoryStore
from faust.tables.globaltable import GlobalTable as FaustGlobalTable
from faust.types import TP, EventT, StoreT
from yarl import URL

from redfaust.processing.changes import LATER, Causes, Row
from redfaust.processing.scope import current_scope
from redfaust.tables.store import PostgresStore, own_copy
from redfaust.tables.table import Table

WRITER = "redfaust-writer"
"""Header of a row: its writer, and its number among the rows of that writer, as ``name/number``."""

_WRITER = re.compile(rb"([0-9a-f]{32})/([0-9]{1,18})")
"""What stands there, if this program has written it."""

_MISSING = object()


class _Ahead(NamedTuple):
    """A row as this worker has written it, and has not read back yet."""

    number: int
    value: Any
    """``_MISSING``: it is deleted."""


class EverywhereStore(MemoryStore[Any, Any]):
    """The rows as the changelog has them, and what is ahead of it."""

    items = MutableMapping.items
    keys = MutableMapping.keys
    values = MutableMapping.values
    update = MutableMapping.update
    clear = MutableMapping.clear

    # Faust's is a function in Python, and a store is a key of what each event writes.
    __hash__ = object.__hash__

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._table = cast("GlobalTable", self.table)
        self._writer = uuid4().hex
        self._numbers = count(1)
        self._ahead: dict[Any, _Ahead] = {}

    # -- as events see it --------------------------------------------------------------------

    def _find(self, key: Any) -> Any:
        scope = current_scope()
        written = None if scope is None else scope.row(self, key)
        if written is not None:
            _, value, encoded = written
            return _MISSING if encoded is None else value
        ahead = self._ahead.get(key)
        return self.data.get(key, _MISSING) if ahead is None else ahead.value

    def get(self, key: Any, default: Any = None) -> Any:
        value = self._find(key)
        # Changed in place it would be changed for this worker alone.
        return default if value is _MISSING else own_copy(value)

    def __getitem__(self, key: Any) -> Any:
        value = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not _MISSING

    def __iter__(self) -> Iterator[Any]:
        scope = current_scope()
        written: Mapping[Any, Row] = {} if scope is None else scope.rows(self)
        return iter([key for key in {**self.data, **self._ahead, **written} if key in self])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._write(key, value, LATER)

    def __delitem__(self, key: Any) -> None:
        if key not in self:
            raise KeyError(key)
        self._write(key, None, None)

    def _write(self, key: Any, value: Any, encoded: Any) -> None:
        number = next(self._numbers)
        # It goes with the event that is processed, as all that is sent; it is encoded at once.
        self._table.send_row(key, value, f"{self._writer}/{number}")
        row = (number, value, encoded)
        scope = current_scope()
        if scope is None:
            self.apply(key, row, None)
        else:
            scope.write(self, key, row)

    def apply(self, key: Any, row: Row, causes: Causes | None) -> None:  # noqa: ARG002
        """Note a row of an event that is finished."""
        number, value, encoded = row
        self._ahead[key] = _Ahead(number, _MISSING if encoded is None else value)

    # -- as the changelog has it -------------------------------------------------------------

    def apply_changelog_batch(
        self,
        batch: Iterable[EventT[Any]],
        to_key: Callable[[Any], Any],
        to_value: Callable[[Any], Any],
    ) -> None:
        for event in batch:
            key = to_key(event.key)
            if event.message.value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = to_value(event.value)
            if (ahead := self._ahead.get(key)) and self._own_number(event) >= ahead.number:
                del self._ahead[key]

    def _own_number(self, event: EventT[Any]) -> int:
        """The number of the row among those of this worker; 0 if another one has written it."""
        said = bytes(dict(event.message.headers or ()).get(WRITER, b""))
        found = _WRITER.fullmatch(said)
        return int(found[2]) if found and found[1] == self._writer.encode() else 0

    def start_over(self) -> None:
        """Forget what was not committed. What was comes with the changelog."""
        self._ahead.clear()

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """All partitions are this worker's, so nothing is to go."""


class GlobalTable(FaustGlobalTable, Table):
    """Faust's, of which each worker has all rows, and reads on.

    A row lies in the partition of the changelog that its key says, whoever writes it: the last one
    who did counts.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Of tables with a buffer of one Faust reads the changelog on after it has recovered.
        super().__init__(*args, **{**kwargs, "recovery_buffer_size": 1})

    def _new_store_by_url(self, url: str | URL) -> StoreT[Any, Any]:
        if stores.by_url(url) not in (PostgresStore, MemoryStore):
            return super()._new_store_by_url(url)
        return self._build_store(EverywhereStore, URL("memory://"))

    def send_row(self, key: Any, value: Any, writer: str) -> None:
        """Put a row on the changelog topic, by the partition of its key; ``None`` deletes it."""
        self.changelog_topic.send_soon(
            key=key,
            value=value,
            headers={WRITER: writer.encode()},
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer if value is not None else "raw",
        )

    def partition_for_key(self, key: Any) -> int | None:  # noqa: ARG002
        return None

    def on_key_set(self, key: Any, value: Any) -> None:
        if not isinstance(self.data, EverywhereStore):
            super().on_key_set(key, value)
            return
        if self.window is not None:
            self._maybe_set_key_ttl(key, 0)
        self._sensor_on_set(self, key, value)

    def on_key_del(self, key: Any) -> None:
        if not isinstance(self.data, EverywhereStore):
            super().on_key_del(key)
            return
        if self.window is not None:
            self._maybe_del_key_ttl(key, 0)
        self._sensor_on_del(self, key)
