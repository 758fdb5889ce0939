"""Tables of sets. In Postgres a set is a JSON array in its row.

Each operation writes the whole row, so these are for sets of hundreds of members, not of millions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSet
from typing import Any, ClassVar, cast

from faust import stores
from faust.tables.sets import SetTable as FaustSetTable
from faust.tables.sets import SetTableManager as FaustSetTableManager
from faust.tables.sets import SetWindowWrapper as FaustSetWindowWrapper
from faust.types import StoreT

from redfaust.tables.store import PostgresStore
from redfaust.tables.table import Table, WindowWrapper


class StoredSet(MutableSet[Any]):
    """The set of one key, as the current event sees it; what is done to it is the event's.

    What it makes of itself and others (``|``, ``union`` …) is an ordinary set.
    """

    def __init__(self, table: SetTable, key: Any) -> None:
        self._table = table
        self._key = key

    @property
    def _members(self) -> frozenset[Any]:
        return cast("frozenset[Any]", self._table.data.get(self._key, frozenset()))

    def _become(self, members: frozenset[Any]) -> None:
        if members != self._members:
            self._table.on_key_set(self._key, members)
            self._table.data[self._key] = members

    @classmethod
    def _from_iterable(cls, members: Iterable[Any]) -> set[Any]:
        return set(members)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return repr(set(self._members))

    def add(self, value: Any) -> None:
        self._become(self._members | {value})

    def discard(self, value: Any) -> None:
        self._become(self._members - {value})

    def clear(self) -> None:
        self._become(frozenset())

    def update(self, *others: Iterable[Any]) -> None:
        """Add the members of others."""
        self._become(self._members.union(*others))

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Remove the members of others."""
        self._become(self._members.difference(*others))

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Remove what is no member of all others."""
        self._become(self._members.intersection(*others))

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        """Have what was a member of one of the two."""
        self._become(self._members.symmetric_difference(other))

    def __ior__(self, other: Iterable[Any]) -> StoredSet:  # type: ignore[misc] # as set has it
        self.update(other)
        return self

    def __isub__(self, other: Iterable[Any]) -> StoredSet:
        self.difference_update(other)
        return self

    def __iand__(self, other: Iterable[Any]) -> StoredSet:
        self.intersection_update(other)
        return self

    def __ixor__(self, other: Iterable[Any]) -> StoredSet:  # type: ignore[misc] # as set has it
        self.symmetric_difference_update(other)
        return self

    def union(self, *others: Iterable[Any]) -> set[Any]:
        """The members of this and others."""
        return set(self._members.union(*others))

    def difference(self, *others: Iterable[Any]) -> set[Any]:
        """The members of this and of no other."""
        return set(self._members.difference(*others))

    def intersection(self, *others: Iterable[Any]) -> set[Any]:
        """The members of this and all others."""
        return set(self._members.intersection(*others))

    def symmetric_difference(self, other: Iterable[Any]) -> set[Any]:
        """The members of one of the two."""
        return set(self._members.symmetric_difference(other))

    def issubset(self, other: Iterable[Any]) -> bool:
        """Whether all members are the other's as well."""
        return self._members.issubset(other)

    def issuperset(self, other: Iterable[Any]) -> bool:
        """Whether all of the other's members are this one's."""
        return self._members.issuperset(other)

    def copy(self) -> set[Any]:
        """The members, as they are now."""
        return set(self._members)


class SetWindowWrapper(WindowWrapper, FaustSetWindowWrapper):
    """The way to a windowed table of sets."""


class SetTableManager(FaustSetTableManager[Any, Any]):
    """Faust's, whose agent has the name of its table beside its own.

    Faust's are all called the same, so that of several in one application only the last one starts.
    """

    def _enable(self) -> None:
        name = f"faust.SetTable.manager.{self.set_table.name}"
        self.agent = self.app.agent(channel=self.topic, name=name)(self._modify_set)


class SetTable(FaustSetTable[Any, Any], Table):
    """Faust's table of sets. Where Postgres keeps it, its sets are :class:`StoredSet`."""

    Manager = SetTableManager
    WindowWrapper = SetWindowWrapper  # type: ignore[assignment] # both of its kinds
    holds_sets: ClassVar[bool] = True

    def _new_store(self) -> StoreT[Any, Any]:
        url = self._store or self.app.conf.store
        if stores.by_url(url) is PostgresStore:
            return self._new_store_by_url(url)
        return super()._new_store()

    def __getitem__(self, key: Any) -> Any:
        if not self.in_postgres:
            return super().__getitem__(key)
        self.on_key_get(key)
        return StoredSet(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        # What ``table[key] |= …`` has done is done.
        if not (isinstance(value, StoredSet) and value._table is self and value._key == key):
            raise NotImplementedError(f"Table {self.name!r}: change its sets, by table[key].add(…)")
