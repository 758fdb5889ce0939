"""Tables whose keys are checked against the partition they are written from."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import orjson
from faust.sensors.monitor import Monitor, TableState
from faust.streams import current_event
from faust.tables.table import Table as FaustTable
from faust.types import EventT

from connectors.errors import WrongPartition
from connectors.tables.store import PostgresStore
from connectors.transports.partitioner import partition_of

_MISSING = object()


class Table(FaustTable[Any, Any]):
    """Faust's table. Where its rows are in Postgres, it needs no changelog topic."""

    mundane_level = "debug"

    _counts: TableState | None = None
    """The built-in monitor's, where it is the only sensor: asking all of them about each access
    would cost more than the access."""

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
        monitor, *others = self.app.sensors
        if type(monitor) is Monitor and not others:
            self._counts = monitor._table_or_create(self)

    def __getitem__(self, key: Any) -> Any:
        if self._postgres is None:
            return super().__getitem__(key)
        self.on_key_get(key)
        row = self._postgres.get(key, _MISSING)
        return self.__missing__(key) if row is _MISSING else row

    def on_key_get(self, key: Any) -> None:
        if self._counts is None:
            super().on_key_get(key)
        else:
            self._counts.keys_retrieved += 1

    def on_key_set(self, key: Any, value: Any) -> None:
        if self._postgres is None:
            super().on_key_set(key, value)
            return
        if self.window is not None:
            self._maybe_set_key_ttl(key, self.partition_for_key(key) or 0)
        if self._counts is None:
            self._sensor_on_set(self, key, value)
        else:
            self._counts.keys_updated += 1

    def on_key_del(self, key: Any) -> None:
        if self._postgres is None:
            super().on_key_del(key)
            return
        if self.window is not None:
            self._maybe_del_key_ttl(key, self.partition_for_key(key) or 0)
        self._sensor_on_del(self, key)

    def partition_for_key(self, key: Any) -> int | None:
        """The partition that a write of this key belongs to: that of the current event.

        Raises WrongPartition if the key's own partition is another one. Two workers would then
        write the same row.
        """
        if self._postgres is None:
            return super().partition_for_key(key)
        event = current_event()
        if event is None:
            raise TypeError(
                f"Table {self.name!r} can be written only while an event is processed: "
                "send an event, and write the table in the agent that gets it"
            )
        if event.message.generation_id != self.app.consumer_generation_id:
            raise WrongPartition(
                f"Table {self.name!r}: partitions moved while an event of "
                f"{event.message.topic!r} was processed; whoever owns it now gets it again"
            )
        subject = key[0] if self.window is not None else key
        if not self.use_partitioner and subject != event.key:
            self._check(subject, event)
        return event.message.partition

    def _check(self, key: Any, event: EventT[Any]) -> None:
        message = event.message
        partitions = self.app.consumer.topic_partitions(message.topic)
        if partitions is None:
            return
        own = partition_of(_as_bytes(key), partitions)
        if own != message.partition:
            raise WrongPartition(
                f"Table {self.name!r}: key {key!r} belongs to partition {own} of "
                f"{message.topic!r}, but the event lies in {message.partition}. "
                "Repartition the stream by the table's key first: stream.group_by(…)"
            )


def _as_bytes(key: Any) -> bytes:
    if isinstance(key, bytes):
        return key
    return key.encode() if isinstance(key, str) else orjson.dumps(key)
