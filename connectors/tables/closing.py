"""Closes windows whose time is over: their rows are deleted, and the application is told, once.

::

    OPEN ──its end is over──▶ CLOSING ──the application was told──▶ CLOSED ──commit──▶ (deleted)
      ▲                          │
      └── it failed, or the partition moved, or an event writes the row: at the next cleaning ──┘

No event causes it, but it counts like one: the deletion and what ``on_window_close`` writes and
sends are committed together, fenced by the epoch of the row's partition.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from faust.types import AppT

from connectors.processing.backing import Backing, backing_of
from connectors.processing.scope import open_scope, set_current
from connectors.processing.tenure import Held, Tenure

if TYPE_CHECKING:
    from connectors.tables.expiry import Expiry
    from connectors.tables.store import PostgresStore
    from connectors.tables.table import Table

NO_OFFSET = -1
"""The offset of what stands in for an event."""


class ClosingMessage(Held):
    """Stands in for the message of an event, in the partition of the row."""

    def __init__(self, tenure: Tenure, key: bytes) -> None:
        super().__init__(
            topic=tenure.tp.topic,
            partition=tenure.tp.partition,
            offset=NO_OFFSET,
            timestamp=time.time(),
            timestamp_type=0,
            headers=[],
            key=key,
            value=None,
            checksum=None,
            tp=tenure.tp,
        )
        self.tenure = tenure

    def finish(self, n: int = 1) -> bool:  # noqa: ARG002 - nobody waits for it
        """See :class:`~connectors.processing.tenure.Held`."""
        self.acked = True
        return True


async def close_windows(table: Table, store: PostgresStore, expiry: Expiry) -> None:
    """Close the windows of a table whose time is over. Those that cannot be closed now stay."""
    window, now = table.window, time.time()
    assert window is not None
    for key in expiry.due(lambda end: window.stale(end, now)):
        if not await _close(table, store, key):
            expiry.add(key)


async def _close(table: Table, store: PostgresStore, key: Any) -> bool:
    """Close one window. Returns False if it is to be tried again."""
    partition = store.place(key)
    if partition is None:
        return True  # it is deleted, or another worker's
    consumer: Any = table.app.consumer
    tenure = _tenure_of(table.app, partition)
    if tenure is None or consumer.commits.is_writing(store, key):
        return False
    message = ClosingMessage(tenure, table.bytes_of(key))
    event = table.app.create_event(key[0], None, {}, message)
    scope = open_scope([event], table.name)
    try:
        value = store[key]
        del store[key]
        table.on_key_del(key)
        scope.defer(lambda: cast(Backing, backing_of(table.app)).unit.stray(tenure.tp))
        await table.on_window_close(key, value)
    except Exception:
        scope.drop()
        table.log.exception("Closing the window %s of %s failed", key, table.name)
        return False
    finally:
        set_current(None)
    if not tenure.counts:
        scope.drop()
        return True  # its heir closes it
    scope.join()
    consumer.note_progress()
    return True


def _tenure_of(app: AppT, partition: int) -> Tenure | None:
    """A partition of this number whose events this worker may process, if there is one."""
    consumer: Any = app.consumer
    found = [
        tenure
        for tp, tenure in consumer.tenures.items()
        if tp.partition == partition and tenure.may_begin and consumer.numbers([tp])
    ]
    return min(found, key=lambda tenure: tenure.tp, default=None)
