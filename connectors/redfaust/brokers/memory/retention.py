"""How much is kept of topics in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping

from redfaust.brokers.broker import (
    TRIM_AT_ONCE,
    Bound,
    HeldBack,
    Record,
    Retention,
    Trimmed,
)
from redfaust.brokers.memory.records import Records

Floors = Mapping[str, int]
"""By group, the position below which it needs nothing any more."""


def trim(records: Records, retention: Retention, floors: Floors) -> Trimmed:
    """Remove what is too much of a partition, but nothing that a group needs."""
    newest = len(records) - 1  # it stays
    needless = records.count_below(min(floors.values(), default=records.end))
    too_many = max(0, min(_excess(records, retention), needless, newest))
    removed = min(too_many, TRIM_AT_ONCE)
    records.remove(removed)
    return Trimmed(removed, removed < too_many, held_back(records, retention, floors))


def compact(records: Records, retention: Retention, floors: Floors) -> Trimmed:
    """Remove what a later entry has made needless, in one go."""
    finished = records.count_below(min(floors.values(), default=records.end))
    last: dict[bytes, Record] = {}
    needless = set()
    for record in records.read(0, finished):
        if record.key is not None:
            if record.key in last:
                needless.add(last[record.key].offset)
            last[record.key] = record
    oldest_kept = time.time() - retention.deletions
    needless.update(
        record.offset
        for record in last.values()
        if record.value is None
        and record.offset < records.end - 1
        and records.appended_at(record.offset) < oldest_kept
    )
    records.drop(needless)
    return Trimmed(len(needless))


def held_back(records: Records, retention: Retention, floors: Floors) -> HeldBack | None:
    """What groups keep of a partition beyond the bounds."""
    floor = min(floors.values(), default=records.end)
    needless = records.count_below(floor)
    needed = records.read(floor, 1)
    if not needed or _excess(records, retention) <= needless:
        return None
    groups = frozenset(group for group, at in floors.items() if at == floor)
    age = time.time() - records.appended_at(needed[0].offset)
    if retention.age is not None and age > retention.age:
        return HeldBack(groups, Bound.AGE, age)
    if needless:
        return None
    if retention.entries is not None and len(records) > retention.entries:
        return HeldBack(groups, Bound.ENTRIES, len(records))
    return HeldBack(groups, Bound.SIZE, records.size)


def _excess(records: Records, retention: Retention) -> int:
    """How many of the oldest entries are too much."""
    age, size, entries = retention.age, retention.size, retention.entries
    return max(
        0 if age is None else records.count_older(time.time() - age),
        0 if size is None else records.count_beyond(size),
        0 if entries is None else len(records) - entries,
    )
