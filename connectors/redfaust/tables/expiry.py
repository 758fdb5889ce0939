"""Windows that expire: their rows are closed, and deleted, by commits that no event causes.

::

    written, or loaded ──▶ NOTED ──the window is stale──▶ DUE ──on_window_close──▶ GONE
                                                          ▲          │
                                                          └── fails, or an event has the row

What ``on_window_close`` writes and sends is committed together with the deletion, under the epoch
of the row's partition: once for each row, whoever owns the partition then. If a worker is killed
before, its heir closes the window. A late event makes another row, which is closed as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from hashlib import blake2b
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from faust.types import Message
from faust.types.windows import WindowT

from redfaust.processing.changes import Causes, Row
from redfaust.processing.owned_partition import OwnedMessage, OwnedPartition
from redfaust.processing.scope import open_scope, set_current
from redfaust.processing.state_backend import StateBackend, state_backend_of
from redfaust.tables.store import PostgresStore

if TYPE_CHECKING:
    from redfaust.tables.table import Table

CLOSED_AT_A_TIME = 100
"""Rows after which other tasks run."""

LONGEST_PAUSE = 600.0
"""Seconds to which the pause grows after which a window that could not be closed is tried again."""

NO_OFFSET = 1 << 100
"""Above all offsets of a log: where what closes a window has its place, for what Postgres may have
against it."""


class Expiry:
    """Which rows of a table expire when: one timer for each window of a partition."""

    def __init__(self) -> None:
        self._keys: dict[tuple[float, int], set[Any]] = {}
        """By end of the window and partition."""
        self._timers: list[tuple[float, int]] = []
        self._due: set[tuple[float, int]] = set()

    def __len__(self) -> int:
        """How many timers there are."""
        return len(self._keys)

    def note(self, key: Any, partition: int) -> None:
        """Have a row expire with its window."""
        timer = key[1][1], partition
        if (keys := self._keys.get(timer)) is None:
            keys = self._keys[timer] = set()
            heappush(self._timers, timer)
        keys.add(key)

    def discard(self, key: Any, partition: int) -> None:
        """Forget a row. Its window may get others."""
        if (keys := self._keys.get((key[1][1], partition))) is not None:
            keys.discard(key)

    def let_go(self, partitions: Collection[int]) -> None:
        """Forget the rows of partitions."""
        for timer in [timer for timer in self._keys if timer[1] in partitions]:
            self._keys[timer].clear()

    def due(self, is_stale: Callable[[float], bool]) -> list[tuple[int, Any]]:
        """Partitions and keys of rows whose windows are stale, by their ends; the oldest first."""
        while self._timers and is_stale(self._timers[0][0]):
            self._due.add(heappop(self._timers))
        for timer in [timer for timer in self._due if not self._keys[timer]]:
            self._due.remove(timer)
            del self._keys[timer]
        return [(timer[1], key) for timer in sorted(self._due) for key in self._keys[timer]]


class ExpiringStore(PostgresStore):
    """Of a windowed table whose windows expire."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.expiry = Expiry()

    def apply(self, key: Any, row: Row, causes: Causes | None) -> None:
        super().apply(key, row, causes)
        (self.expiry.discard if row[2] is None else self.expiry.note)(key, row[0])

    def put(self, key: Any, encoded: Any, partition: int) -> None:
        super().put(key, encoded, partition)
        if key in self._rows:
            self.expiry.note(key, partition)
            self._table.note_latest(partition, key[1][1])

    def start_over(self) -> None:
        super().start_over()
        self.expiry = Expiry()

    def let_go(self, partitions: Collection[int]) -> None:
        super().let_go(partitions)
        self.expiry.let_go(partitions)

    def row(self, key: Any) -> Row | None:
        """A row as finished events have left it; ``None`` if there is none."""
        return self._rows.get(key)

    def place_of(self, key: Any) -> int:
        """What stands for the offset of an event where a row expires; always the same."""
        name = f"{self._name} {self._key.encode(key)}"
        return NO_OFFSET + int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


class ClosedWindow(OwnedMessage):
    """What stands for the message where no event is processed, but a row expires."""

    def __init__(self, owned_partition: OwnedPartition, offset: int, end: float) -> None:
        super().__init__(
            topic=owned_partition.tp.topic,
            partition=owned_partition.tp.partition,
            offset=offset,
            timestamp=end,
            timestamp_type=0,
            headers=[],
            key=None,  # of which the bytes are not known; what has it lies in this partition
            value=None,
            checksum=None,
            time_in=time.monotonic(),
            tp=owned_partition.tp,
        )
        self.owned_partition = owned_partition

    def finish(self, n: int = 1) -> bool:  # noqa: ARG002 - nobody else has it
        """See :class:`~redfaust.processing.owned_partition.OwnedMessage`. No position moves."""
        return True


class _Failure(NamedTuple):
    pause: float
    """Seconds until it was to be tried again."""
    due: float
    """When that is, by the monotonic clock."""


class Closing:
    """Closes the windows of one table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._failed: dict[Any, _Failure] = {}

    async def run(self) -> None:
        """Close what has expired by now."""
        table, now = self._table, time.time()
        store, consumer = cast(ExpiringStore, table.data), cast(Any, table.app.consumer)
        window = cast("WindowT", table.window)
        closed = 0
        for partition, key in store.expiry.due(lambda end: window.stale(end, now)):
            owned_partition = table.owned(partition)
            failure = self._failed.get(key)
            if owned_partition is None or not owned_partition.may_begin:
                continue
            if failure is not None and failure.due > time.monotonic():
                continue
            closed += await self._close(store, owned_partition, partition, key)
            if closed and not closed % CLOSED_AT_A_TIME:
                consumer.note_progress()
                await table.sleep(0)
        if closed:
            consumer.note_progress()

    async def _close(
        self, store: ExpiringStore, owned_partition: OwnedPartition, partition: int, key: Any
    ) -> bool:
        table, row, offset = self._table, store.row(key), store.place_of(key)
        consumer, state_backend = (
            cast(Any, table.app.consumer),
            cast(StateBackend, state_backend_of(table.app)),
        )
        if row is None or row[0] != partition or consumer.commits.uses(store, key):
            return False
        refused = consumer.poisoned.take_refusal(owned_partition.tp, offset)
        if refused is not None:
            self._fail(key, refused)
            return False
        owned_partitions = dict(consumer.owned_partitions)
        message: Message = ClosedWindow(owned_partition, offset, key[1][1])
        event = table.app.create_event(key[0], None, {}, message)
        scope = open_scope((event,))
        try:
            if table.closes_windows:
                await table.on_window_close(key, store.get(key))
        except Exception as error:
            scope.drop()
            self._fail(key, error)
            return False
        else:
            if (
                not owned_partition.counts
                or store.row(key) is not row
                or consumer.commits.uses(store, key)
                or any(
                    owned_partitions.get(tp) is not consumer.owned_partitions.get(tp)
                    for tp in scope.strays
                )
            ):
                return False  # it was done for what is not so any more
            scope.write(store, key, (partition, None, None))
            scope.join()
            self._failed.pop(key, None)
            state_backend.unit.stray(owned_partition.tp)
            return True
        finally:
            scope.drop()
            set_current(None)

    def _fail(self, key: Any, error: Exception) -> None:
        before = self._failed.get(key)
        interval = float(self._table.app.conf.table_cleanup_interval)
        pause = interval if before is None else min(2 * before.pause, LONGEST_PAUSE)
        self._failed[key] = _Failure(pause, time.monotonic() + pause)
        self._table.log.error(
            "The window %s of table %r could not be closed, which is tried again in %.0f s: %s",
            key,
            self._table.name,
            pause,
            error,
            exc_info=error,
        )
