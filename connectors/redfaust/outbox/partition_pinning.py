"""Keeps what was published where it is, though its topic gets more partitions.

A published batch is kept in case that the broker loses it, and is appended again then. Its entries
must find the last sequences that they have left, so they have to go where they went.
"""

from __future__ import annotations

from collections.abc import Mapping

from redfaust.brokers.broker import SequencedEntry
from redfaust.brokers.partitioner import partition_of_sequenced
from redfaust.outbox.entries import as_row, staged
from redfaust.postgres.database import Connection
from redfaust.postgres.queries import load


async def pin(connection: Connection, partitions: Mapping[str, int]) -> None:
    """Write down where published entries of these topics lie, which have so many partitions.

    Within the caller's transaction, which sees to it that nothing is published meanwhile.
    """
    # One by one: each may be as large as a batch may be.
    rows = connection.cursor(_query("select_unpinned"), list(partitions), prefetch=1)
    async for row in rows:
        [batch] = staged([row])
        entries = [as_row(_pinned(sequenced, partitions)) for sequenced in batch.entries]
        await connection.execute(
            _query("replace_entries"), batch.producer_id, batch.last_sequence, entries
        )


def _pinned(sequenced: SequencedEntry, partitions: Mapping[str, int]) -> SequencedEntry:
    number, entry = sequenced
    if entry.partition is not None or entry.topic not in partitions:
        return sequenced
    partition = partition_of_sequenced(entry.key, number, partitions[entry.topic])
    return SequencedEntry(number, entry._replace(partition=partition))


def _query(name: str) -> str:
    return load("redfaust.outbox", name)
