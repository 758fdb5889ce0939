"""Tables whose keys are checked against the partition they are written from."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, ClassVar, cast

from faust import stores
from faust.sensors.monitor import TableState
from faust.stores.base import Store as FaustStore
from faust.tables.table import Table as FaustTable
from faust.tables.wrappers import WindowWrapper as FaustWindowWrapper
from faust.types import TP, EventT, StoreT
from faust.types.windows import WindowT
from yarl import URL

from connectors.brokers.partitioner import partition_of
from connectors.errors import WrongPartition
from connectors.processing.backing import Backing, backing_of
from connectors.processing.monitoring import only_monitor
from connectors.processing.scope import Scope, State, current_scope, scope_of_task
from connectors.processing.topic import Topic
from connectors.processing.typed_values import dumps_json
from connectors.tables.declarations import (
    CACHED_ROWS,
    PREFETCH_FOR,
    check_arguments,
    check_options,
)
from connectors.tables.prefetch import Prefetch, prefetch_of
from connectors.tables.store import PostgresStore, not_shared
from connectors.tables.wide import WideStore

_MISSING, _OPEN = object(), State.OPEN

logger = logging.getLogger(__name__)


class WindowWrapper(FaustWindowWrapper):
    """Faust's way to a windowed table, whose table knows of it."""

    def __init__(self, table: Table, **kwargs: Any) -> None:
        super().__init__(table, **kwargs)
        table.wrappers[id(self)] = self


class Table(FaustTable[Any, Any]):
    """Faust's table. Where its rows are in Postgres, it needs no changelog topic."""

    mundane_level = "debug"
    WindowWrapper = WindowWrapper
    holds_sets: ClassVar[bool] = False
    """Whether its values are sets."""

    _has_strayed = False
    """Whether it was said that events without a key write it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # A default that the class has would have Python look in both places, each time.
        self._counts: TableState | None = None
        """The built-in monitor's, where it is the only sensor: asking all of them about each access
        would cost more than the access."""
        self._direct: PostgresStore | None = None
        """Where values are looked up and put of which nobody else is told."""
        check_arguments(kwargs)
        super().__init__(*args, **kwargs)
        if not self.is_global:
            store = stores.by_url(self._store or self.app.conf.store)
            check_options(
                self.name,
                self.options or {},
                self.value_type,
                in_postgres=store is PostgresStore,
                holds_sets=self.holds_sets,
            )
        self.wrappers: weakref.WeakValueDictionary[int, WindowWrapper] = (
            weakref.WeakValueDictionary()
        )
        """The ways to its windows, each with a time of its own, by id: they cannot be hashed."""

    def _new_store_by_url(self, url: str | URL) -> StoreT[Any, Any]:
        kind = stores.by_url(url)
        if kind is PostgresStore and CACHED_ROWS in (self.options or {}):
            kind = WideStore
        return self._build_store(kind, url)

    def _build_store(
        self, kind: Callable[..., StoreT[Any, Any]], url: str | URL
    ) -> StoreT[Any, Any]:
        return kind(
            url,
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            loop=self.loop,
            options=self.options,
        )

    @cached_property
    def _postgres(self) -> PostgresStore | None:
        return self.data if isinstance(self.data, PostgresStore) else None

    @property
    def in_postgres(self) -> bool:
        """Whether Postgres keeps the rows."""
        return self._postgres is not None

    async def on_start(self) -> None:
        if not self.in_postgres:
            await super().on_start()
        if (monitor := only_monitor(self.app)) is not None:
            self._counts = monitor._table_or_create(self)
            self._direct = self._postgres if self.window is None else None

    def __getitem__(self, key: Any) -> Any:
        store, counts = self._direct, self._counts
        if store is None or counts is None:
            if (store := self._postgres) is None:
                return super().__getitem__(key)
            self.on_key_get(key)
        else:
            counts.keys_retrieved += 1
        value = store.get(key, _MISSING)
        return self.__missing__(key) if value is _MISSING else value

    def __setitem__(self, key: Any, value: Any) -> None:
        store, counts = self._direct, self._counts
        if store is None or counts is None:
            super().__setitem__(key, value)
        else:
            counts.keys_updated += 1
            store.__setitem__(key, value)

    def on_key_set(self, key: Any, value: Any) -> None:
        if self._postgres is None:
            if not self._has_logged(key, value):
                super().on_key_set(key, value)
            return
        if self.window is not None:
            partition = self.partition_for_key(key) or 0
            self._maybe_set_key_ttl(key, partition)
            self._note_time(partition)
        self._sensor_on_set(self, key, value)

    def _has_logged(self, key: Any, value: Any) -> bool:
        """Put a row on the changelog topic and do what belongs to it, if that goes without all
        that Faust does there."""
        if self._counts is None or self._keeps_offsets:
            return False
        partition, topic = self.partition_for_key(key), self.changelog_topic
        if partition is None or not isinstance(topic, Topic):
            return False
        if topic.send_row(key, value, partition) is None:
            return False
        self._maybe_set_key_ttl(key, partition)
        self._counts.keys_updated += 1
        return True

    @cached_property
    def _keeps_offsets(self) -> bool:
        """Whether the store wants to know where on the topic its rows lie."""
        return type(self.data).set_persisted_offset is not FaustStore.set_persisted_offset

    def on_key_del(self, key: Any) -> None:
        if self._postgres is None:
            super().on_key_del(key)
            return
        if self.window is not None:
            self._maybe_del_key_ttl(key, self.partition_for_key(key) or 0)
        self._sensor_on_del(self, key)

    def partition_for_key(self, key: Any) -> int | None:
        """The partition that a write of this key belongs to: that of the current event, or of one
        of the current batch.

        Raises WrongPartition if the key's own partition is another one. Two workers would then
        write the same row. Raises TableNotShared in an agent with shared delivery.
        """
        if self._postgres is not None:
            return self.partition_of_write(key, scope_of_task(None))
        scope = current_scope()
        if scope is not None and scope.outlet is not None:
            raise not_shared(self.name)
        return super().partition_for_key(key)

    def partition_of_write(self, key: Any, scope: Any) -> int:
        """As :meth:`partition_for_key`, for a table in Postgres that is written in this scope."""
        if type(scope) is not Scope or scope.state is not _OPEN or not scope.events:
            raise TypeError(
                f"Table {self.name!r} can be written only while an event of a topic is processed: "
                "send an event, and write the table in the agent that gets it"
            )
        if scope.outlet is not None:
            raise not_shared(self.name)
        event = scope.events[-1]
        message: Any = event.message
        if not message.tenure.counts:
            raise WrongPartition(
                f"Table {self.name!r}: partitions moved while an event of "
                f"{message.topic!r} was processed; whoever owns it now gets it again"
            )
        if key == event.key and self.window is None:  # nearly always, and known without a hash
            own: int = message.partition
            return own
        own = self._own_partition(key, event)
        if own != message.partition and not _in_hand(own):
            if event.message.key is None:
                self._stray(key, TP(message.topic, own), scope)
                return own
            raise WrongPartition(
                f"Table {self.name!r}: key {key!r} belongs to partition {own} of "
                f"{message.topic!r}, but the event lies in {message.partition}. "
                "Repartition the stream by the table's key first: stream.group_by(…)"
            )
        return own

    def _note_time(self, partition: int) -> None:
        """Have ``now()`` know what was written to a partition for an event of another one."""
        scope, latest = current_scope(), self._partition_latest_timestamp
        if scope is not None and scope.strays and partition in latest:
            own = scope.events[-1].message.partition
            latest[own] = max(latest[own], latest[partition])

    def _stray(self, key: Any, tp: TP, scope: Scope) -> None:
        """Write a row of another partition, for an event that has no key and so lies anywhere.

        It is what counts all events under one name, and goes well as long as this worker owns the
        name's partition too.
        """
        tenure = cast(Any, self.app.consumer).tenures.get(tp)
        if tenure is None or not tenure.may_begin:
            raise WrongPartition(
                f"Table {self.name!r}: key {key!r} belongs to partition {tp.partition} of "
                f"{tp.topic!r}, which another worker owns, and the event has no key. Send events "
                "with the table's key, or repartition the stream by it first: stream.group_by(…)"
            )
        if tp not in scope.strays:
            scope.stray(tp)
            scope.defer(partial(cast(Backing, backing_of(self.app)).unit.stray, tp))
        if not self._has_strayed:
            self._has_strayed = True
            logger.warning(
                "Table %r is written by events that have no key: this works only while one worker "
                "owns all partitions. Send them with the table's key",
                self.name,
            )

    def _own_partition(self, key: Any, event: EventT[Any]) -> int:
        """Where a key belongs, of the partitions of an event's topic."""
        message = event.message
        subject = key[0] if self.window is not None else key
        if self.use_partitioner or subject == event.key:
            return message.partition
        partitions = self.app.consumer.topic_partitions(message.topic)
        if partitions is None:
            return message.partition
        return self.partition_among(partitions, key)

    def partition_among(self, partitions: int, key: Any) -> int:
        """Where a key belongs, of so many partitions."""
        return partition_of(bytes_of_key(key[0] if self.window is not None else key), partitions)

    # -- where not all rows are in memory ----------------------------------------------------

    async def load(self, *keys: Any) -> None:
        """Have rows in memory until the current event is finished, so that they can be used.

        Needed before a row is read or written only if the table is larger than memory
        (``options={"cached_rows": …}``), and not for the key of the event itself. The keys are
        those of ``table[key]``; of a windowed table, ``(key, window)``.

        Raises WrongPartition if a key is of a partition that this worker does not own, and
        CacheFull if too many other rows are in use, and stay so.
        """
        store = self.data
        if not isinstance(store, WideStore):
            return
        scope = current_scope()
        if scope is None or not scope.events:
            raise TypeError(
                f"Rows of table {self.name!r} are loaded while an event is processed; "
                "everybody else reads by SQL"
            )
        event = scope.events[-1]
        for key in keys:
            partition = self._own_partition(key, event)
            if TP(event.message.topic, partition) not in self.app.consumer.assignment():
                raise WrongPartition(
                    f"Table {self.name!r}: key {key!r} belongs to partition {partition} of "
                    f"{event.message.topic!r}, which another worker owns"
                )
        await cast(Prefetch, prefetch_of(self.app)).load(store, keys, event.message)

    def prefetches(self, topic: str) -> bool:
        """Whether rows are loaded for the events of a topic."""
        if not isinstance(self.data, WideStore):
            return False
        topics = (self.options or {}).get(PREFETCH_FOR)
        return topics is None or topic in topics

    def keys_of(self, event: EventT[Any]) -> Collection[Any]:
        """The keys of the rows that an event's own key stands for; of windows there are several."""
        key = event.key
        if key is None or not _is_hashable(key):
            return ()
        if self.window is None:
            return (key,)
        return {(key, window) for window in self._windows_of(event, self.window)}

    def _windows_of(self, event: EventT[Any], window: WindowT) -> set[tuple[float, float]]:
        times = {event.message.timestamp}
        for wrapper in self.wrappers.values():
            with suppress(Exception):  # an event without that time fails in the agent
                times.add(wrapper.get_timestamp(event))
        return {of for time in times for of in (*window.ranges(time), window.current(time))}


def _is_hashable(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def _in_hand(partition: int) -> bool:
    """Whether an event of this partition is in the batch that is processed."""
    scope = current_scope()
    return scope is not None and any(e.message.partition == partition for e in scope.events)


def bytes_of_key(key: Any) -> bytes:
    """A table's key as it stands in the events that are partitioned by it."""
    if isinstance(key, bytes):
        return key
    return key.encode() if isinstance(key, str) else dumps_json(key)
