"""The entries of one partition, in this process."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Collection
from operator import attrgetter

from redfaust.brokers.broker import Record

_offset = attrgetter("offset")


class Records:
    """Offsets begin at 0 and are dense, but for what was removed."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._appended_at: list[float] = []
        self.end = 0
        """The offset of the next entry."""

    def __len__(self) -> int:
        return len(self._records)

    @property
    def first(self) -> int:
        """The oldest offset still held, or the end."""
        return self.behind(0)

    @property
    def size(self) -> int:
        """Bytes of all, about."""
        return sum(map(_size_of, self._records))

    def append(self, record: Record, appended_at: float) -> None:
        """Append a record, whose offset is the end."""
        self._records.append(record)
        self._appended_at.append(appended_at)
        self.end = record.offset + 1

    def read(self, position: int, limit: int) -> list[Record]:
        """At most so many records, from a position on."""
        start = self.count_below(position)
        return self._records[start : start + limit]

    def get(self, offset: int) -> Record | None:
        """The record with this offset, unless it was removed."""
        found = self.read(offset, 1)
        return found[0] if found and found[0].offset == offset else None

    def appended_at(self, offset: int) -> float:
        """When the record with this offset was appended, in seconds since the epoch."""
        return self._appended_at[self.count_below(offset)]

    def behind(self, count: int) -> int:
        """The position behind so many of the oldest records."""
        return self._records[count].offset if count < len(self._records) else self.end

    def count_below(self, position: int) -> int:
        """How many records lie below a position."""
        return bisect_left(self._records, position, key=_offset)

    def count_older(self, appended_at: float) -> int:
        """How many were appended before that."""
        return bisect_left(self._appended_at, appended_at)

    def count_beyond(self, size: int) -> int:
        """How many of the oldest make it larger than so many bytes."""
        excess, count = self.size - size, 0
        while excess > 0 and count < len(self._records):
            excess -= _size_of(self._records[count])
            count += 1
        return count

    def drop(self, offsets: Collection[int]) -> None:
        """Remove the records with these offsets."""
        kept = [place for place, each in enumerate(self._records) if each.offset not in offsets]
        self._records = [self._records[place] for place in kept]
        self._appended_at = [self._appended_at[place] for place in kept]

    def remove(self, count: int) -> None:
        """Remove so many of the oldest records."""
        del self._records[:count], self._appended_at[:count]


def _size_of(record: Record) -> int:
    return sys.getsizeof(record.key) + sys.getsizeof(record.value)
