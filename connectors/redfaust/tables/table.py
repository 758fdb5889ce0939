"""Tables whose keys are checked against the partition they are written from."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import cached_property, partial
from heapq import heappop, heappush
from typing import Any, ClassVar, cast

from faust import stores
from faust.sensors.monitor import TableState
from faust.stores.base import Store as FaustStore
from faust.tables.table import Table as FaustTable
from faust.tables.wrappers import WindowWrapper as FaustWindowWrapper
from faust.types import TP, EventT, StoreT
from faust.types.tables import WindowWrapperT
from faust.types.windows import WindowT
from faust.windows import HoppingWindow, _PyHoppingWindow
from yarl import URL

from redfaust.brokers.partitioner import partition_of
from redfaust.errors import PartitionMoves, WrongPartition
from redfaust.processing.monitoring import only_monitor
from redfaust.processing.owned_partition import OwnedPartition
from redfaust.processing.scope import Scope, State, current_scope, scope_of_task
from redfaust.processing.state_backend import state_backend_of
from redfaust.processing.topic import Topic
from redfaust.processing.typed_values import dumps_json
from redfaust.tables.cached_store import CachedStore
from redfaust.tables.columns import check_key_type
from redfaust.tables.declarations import (
    CACHED_ROWS,
    PREFETCH_FOR,
    check_arguments,
    check_options,
)
from redfaust.tables.expiry import Closing, ExpiringStore
from redfaust.tables.prefetch import Prefetch, prefetch_of
from redfaust.tables.store import REPARTITION, PostgresStore, not_shared

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
        self._closing = Closing(self)
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
        check_key_type(self.key_type)
        self.wrappers: weakref.WeakValueDictionary[int, WindowWrapper] = (
            weakref.WeakValueDictionary()
        )
        """The ways to its windows, each with a time of its own, by id: they cannot be hashed."""

    def using_window(self, window: WindowT, *, key_index: bool = False) -> WindowWrapperT:
        """See Faust's. Windows of a fixed size are computed in Python: in Cython their number
        overflows for times that are far enough from 1970, and the list of them has no end."""
        if isinstance(window, HoppingWindow):
            window = _PyHoppingWindow(window.size, window.step, window.expires)
        return super().using_window(window, key_index=key_index)

    def _new_store_by_url(self, url: str | URL) -> StoreT[Any, Any]:
        kind = stores.by_url(url)
        if kind is PostgresStore and CACHED_ROWS in (self.options or {}):
            kind = CachedStore
        elif kind is PostgresStore and self._should_expire_keys():
            kind = ExpiringStore
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

    # -- windows that expire -----------------------------------------------------------------

    @property
    def closes_windows(self) -> bool:
        """Whether anything is to be done when a window expires but to delete it."""
        overridden = type(self).on_window_close is not FaustTable.on_window_close
        return overridden or self._on_window_close is not None

    def note_latest(self, partition: int, end: float) -> None:
        """Have ``now()`` know the latest window of a partition, by its end."""
        latest = self._partition_latest_timestamp
        if self._should_expire_keys() and end > latest[partition]:
            latest[partition] = end

    def _maybe_set_key_ttl(self, key: Any, partition: int) -> None:
        """As Faust's, which adds a timer for each write and not for each window."""
        if not self._should_expire_keys():
            return
        end = key[1][1]
        self.note_latest(partition, end)
        if (partition, end) not in self._partition_timestamp_keys:
            heappush(self._partition_timestamps[partition], end)
        self._partition_timestamp_keys[partition, end].add(key)

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """As Faust's, which forgets that what it recovers expires."""
        events = [event for event in batch if self._is_row(event)]
        super().apply_changelog_batch(events)
        if self._should_expire_keys():
            for event in events:
                key = self._to_key(event.key)
                if event.message.value is not None:
                    partition = 0 if self.is_global else event.message.partition
                    self._maybe_set_key_ttl(key, partition)

    def _is_row(self, event: EventT[Any]) -> bool:
        """Returns False for an entry of the changelog that no table has written."""
        if _is_hashable(self._to_key(event.key)):
            return True
        logger.error(
            "The entry %s of %s %s is no row of table %r and is ignored, since its key cannot be "
            "hashed. Only the application should write to that topic: look for another producer",
            event.message.offset,
            event.message.topic,
            event.message.partition,
            self.name,
        )
        return False

    async def _del_old_keys(self) -> None:
        if isinstance(self.data, ExpiringStore):
            await self._closing.run()
        elif self._postgres is None and self.is_global:
            await super()._del_old_keys()
        else:
            await self._close_recovered()

    async def _close_recovered(self) -> None:
        """Close the expired windows of a table with a changelog, at least once, and delete them
        there too. Faust's calls nobody for a window that is no younger than one of another
        partition, and deletes them in memory alone."""
        window, now = cast("WindowT", self.window), time.time()
        left: list[tuple[Any, int]] = []
        for partition, ends in list(self._partition_timestamps.items()):
            while ends and window.stale(ends[0], now):
                end = heappop(ends)
                keys = self._partition_timestamp_keys.pop((partition, end), set())
                if self.owned(partition) is None:
                    continue
                left += [(k, partition) for k in keys if not await self._is_closed(k, partition)]
        for key, partition in left:
            self._maybe_set_key_ttl(key, partition)

    async def _is_closed(self, key: Any, partition: int) -> bool:
        if key in self.data:
            try:
                await self.on_window_close(key, self.data[key])
            except Exception:
                self.log.exception("The window %s of table %r is not closed", key, self.name)
                return False
            self.data.pop(key, None)
            self.send_changelog(partition, key, None, value_serializer="raw")
        return True

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
            self.note_latest(partition, key[1][1])
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
        self._sensor_on_del(self, key)

    def partition_for_key(self, key: Any) -> int | None:
        """The partition that a write of this key belongs to: that of the current event, or of one
        of the current batch. ``None`` for a table with a changelog and ``use_partitioner``.

        Raises WrongPartition if the key's own partition is another one. Two workers would then
        write the same row. Raises TableNotShared in an agent with shared delivery.
        """
        if (store := self._postgres) is not None:
            return self.partition_of_write(key, scope_of_task(None), store.partition_of(key))
        scope = current_scope()
        if scope is None or not scope.events:
            return super().partition_for_key(key)
        if scope.outlet is not None:
            raise not_shared(self.name)
        if super().partition_for_key(key) is None:
            return None
        return self._partition_for(key, scope, None)

    def partition_of_write(self, key: Any, scope: Any, known: int | None) -> int:
        """As :meth:`partition_for_key`, for a table in Postgres that is written in this scope.

        ``known`` is the partition in which the key's row lies, if it is in memory: there it stays,
        and nothing is hashed.
        """
        if known is not None and type(scope) is Scope and scope.state is _OPEN and scope.events:
            # Nearly always: the same as below, without a call.
            message: Any = scope.events[-1].message
            if (
                known == message.partition
                and message.owned_partition.counts
                and scope.outlet is None
            ):
                return known
        self._writing(scope)
        return self._partition_for(key, scope, known)

    def partition_of_deletion(self, partition: int, scope: Any) -> int:
        """The same for a row in memory that is deleted. It may be of any partition that this worker
        has, which the commit fences as well."""
        message: Any = self._writing(scope).message
        if partition != message.partition and not _is_in_hand(partition, scope):
            self._fence(message.topic, partition, scope)
        return partition

    def _writing(self, scope: Any) -> EventT[Any]:
        """The current event. Raises if it may not write, whatever row that is."""
        if type(scope) is not Scope or scope.state is not _OPEN or not scope.events:
            raise TypeError(
                f"Table {self.name!r} can be written only while an event of a topic is processed: "
                "send an event, and write the table in the agent that gets it"
            )
        if scope.outlet is not None:
            raise not_shared(self.name)
        event = scope.events[-1]
        message: Any = event.message
        if not message.owned_partition.counts:
            raise WrongPartition(
                f"Table {self.name!r}: partitions moved while an event of "
                f"{message.topic!r} was processed; whoever owns it now gets it again"
            )
        return event

    def _partition_for(self, key: Any, scope: Scope, known: int | None) -> int:
        message: Any = scope.events[-1].message
        own = self._own_partition(key, scope) if known is None else known
        if own == message.partition or _is_in_hand(own, scope):
            return own
        if message.key is None:
            self._stray(key, message.topic, own, scope)
            return own
        raise WrongPartition(
            f"Table {self.name!r}: the event lies in partition {message.partition} of "
            f"{message.topic!r}, but "
            + (f"its key {key!r} belongs" if known is None else f"the row of {key!r} belongs")
            + f" to {own}. {REPARTITION}"
        )

    def _note_time(self, partition: int) -> None:
        """Have ``now()`` know what was written to a partition for an event of another one."""
        scope, latest = current_scope(), self._partition_latest_timestamp
        if scope is not None and scope.strays and partition in latest:
            own = scope.events[-1].message.partition
            latest[own] = max(latest[own], latest[partition])

    def _stray(self, key: Any, topic: str, partition: int, scope: Scope) -> None:
        """Write a row of another partition, for an event that has no key and so lies anywhere.

        It is what counts all events under one name, and goes well as long as this worker owns the
        name's partition too.
        """
        if self.owned(partition, topic) is None:
            raise WrongPartition(
                f"Table {self.name!r}: key {key!r} belongs to partition {partition} of "
                f"{topic!r}, which another worker owns, and the event has no key. Send events "
                "with the table's key, or repartition the stream by it first: stream.group_by(…)"
            )
        self._fence(topic, partition, scope)
        if not self._has_strayed:
            self._has_strayed = True
            logger.warning(
                "Table %r is written by events that have no key: this works only while one worker "
                "owns all partitions. Send them with the table's key",
                self.name,
            )

    def _fence(self, topic: str, partition: int, scope: Scope) -> None:
        """Commit what is written only if this worker owns another partition as well.

        Raises PartitionMoves if it is about to lose that.
        """
        owned = self.owned(partition, topic)
        if owned is None or not owned.may_begin:
            raise PartitionMoves(
                f"Table {self.name!r}: partition {partition} moves to another worker while its "
                "rows are written for an event of another one; the event is tried again"
            )
        if owned.tp not in scope.strays:
            scope.stray(owned.tp)
            if (state_backend := state_backend_of(self.app)) is not None:
                scope.defer(partial(state_backend.unit.stray, owned.tp))

    def owned(self, partition: int, topic: str = "") -> OwnedPartition | None:
        """The partition of a topic if this worker owns it, or that of this number of another topic:
        they move together."""
        consumer: Any = self.app.consumer
        owned_partitions: Mapping[TP, OwnedPartition] = consumer.owned_partitions
        if (owned_partition := owned_partitions.get(TP(topic, partition))) is not None:
            return owned_partition
        of_number = (
            tp for tp in owned_partitions if tp.partition == partition and consumer.numbers([tp])
        )
        return next((owned_partitions[tp] for tp in of_number), None)

    def _own_partition(self, key: Any, scope: Scope) -> int:
        """Where a key without a row belongs: by the hash of the key as it stands in its event, or
        as it would, of the partitions of the event's topic."""
        of_key = scope.message_of(key[0] if self.window is not None else key)
        message: Any = of_key or scope.events[-1].message
        partitions = self.app.consumer.topic_partitions(message.topic)
        if self.use_partitioner or partitions is None:
            return cast(int, message.partition)
        if of_key is None:
            return self.partition_among(partitions, key)
        return message.partition if message.key is None else partition_of(message.key, partitions)

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
        if not isinstance(store, CachedStore):
            return
        scope = current_scope()
        if scope is None or not scope.events:
            raise TypeError(
                f"Rows of table {self.name!r} are loaded while an event is processed; "
                "everybody else reads by SQL"
            )
        event = scope.events[-1]
        for key in keys:
            partition = self._own_partition(key, scope)
            if TP(event.message.topic, partition) not in self.app.consumer.assignment():
                raise WrongPartition(
                    f"Table {self.name!r}: key {key!r} belongs to partition {partition} of "
                    f"{event.message.topic!r}, which another worker owns"
                )
        await cast(Prefetch, prefetch_of(self.app)).load(store, keys, event.message)

    def prefetches(self, topic: str) -> bool:
        """Whether rows are loaded for the events of a topic."""
        if not isinstance(self.data, CachedStore):
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


def _is_in_hand(partition: int, scope: Scope) -> bool:
    """Whether an event of this partition is in the batch that is processed."""
    return any(event.message.partition == partition for event in scope.events)


def bytes_of_key(key: Any) -> bytes:
    """A table's key as it stands in the events that are partitioned by it."""
    if isinstance(key, bytes):
        return key
    return key.encode() if isinstance(key, str) else dumps_json(key)
