"""How far a partition is finished.

Events of a partition are delivered in order and may finish in any; where several agents read a
topic, each finishes an event by itself. The position that can be committed is the one before the
oldest unfinished event. What is finished ahead of it is committed beside it, so that after a crash
it is not done again.

Offsets need not be consecutive, so the delivered ones are kept, not computed (Faust's own
arithmetic commits past an unfinished event: faust-streaming#606). And they need not last: a broker
that fails over to a replica which lacks the latest entries gets them again, under other offsets. An
entry that a producer has sent is known by the producer and its number there; of each producer the
highest number below the position is remembered, as the numbers of a producer grow along a log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from redfaust.brokers.broker import Advance, Record

Readers = frozenset[str]
"""Agents, by name. Of an event that all have finished, the set is empty."""

EVERYBODY: Readers = frozenset()

Source: TypeAlias = tuple[str, int]
"""The producer that sent an entry, and its number there."""

Identity: TypeAlias = Source | int
"""What an event is known by: its source, or without one its offset."""


class Progress(NamedTuple):
    """What is finished of a partition at one moment."""

    advance: Advance
    ahead: Mapping[Identity, Readers]
    """Events above the position: who has finished them."""
    applied: Mapping[str, int]
    """Producer to the highest number of its events below the position."""
    version: int


class Committed(NamedTuple):
    """Where a partition is to be continued, and what is finished of what comes there."""

    position: int
    ahead: Mapping[Identity, Readers] = {}
    """Who has finished what above the position."""
    applied: Mapping[str, int] = {}
    """As in :class:`Progress`."""
    passed: int = 0
    """Events without a source are finished up to here, also those above the position."""


class OffsetTracker:
    """Delivered and finished offsets of one partition."""

    def __init__(self, committed: Committed) -> None:
        self._position = self._committed_position = committed.position
        self._passed = committed.passed
        self._applied = dict(committed.applied)
        self._expected = dict(committed.ahead)
        """Finished ahead of the position by somebody before, and not seen yet."""
        self._delivered: dict[str, int] = dict(committed.applied)
        """Producer to the highest number that has come."""
        self._unfinished: deque[int] = deque()
        self._sources: dict[int, Source] = {}
        """Of unfinished offsets, where they have one."""
        self._ahead: dict[int, Readers] = {}
        self._repeats: set[int] = set()
        """Offsets that have nothing to be done for."""
        self._came = 0
        """Events that were delivered since the last commit, or were in flight then."""
        self._version = self._committed_version = 0

    @property
    def in_flight(self) -> int:
        """Events that were delivered and lie at or above the oldest unfinished one."""
        return len(self._unfinished)

    @property
    def unfinished(self) -> int:
        """Events that were delivered and that somebody has not finished."""
        ahead = sum(not readers for readers in self._ahead.values())
        return len(self._unfinished) - ahead - len(self._repeats)

    @property
    def position(self) -> int:
        """Everything below is finished."""
        return self._position

    def deliver(self, records: Sequence[Record]) -> dict[int, Readers]:
        """Note events as delivered, in their order in the partition.

        Returns the events that were finished before, each with the agents that finished it; an
        empty set stands for all agents.
        """
        done_by: dict[int, Readers] = {}
        self._came += len(records)
        for record in records:
            offset, source = record.offset, record.source
            self._unfinished.append(offset)
            if source is not None:
                producer_id, number = source
                if number <= self._delivered.get(producer_id, 0):
                    self._repeats.add(offset)
                    done_by[offset] = EVERYBODY
                    continue
                self._delivered[producer_id] = number
                self._sources[offset] = source
            elif offset < self._passed:
                self._repeats.add(offset)
                done_by[offset] = EVERYBODY
                continue
            if self._expected:
                readers = self._expected.pop(source or offset, None)
                if readers is not None:
                    done_by[offset] = self._ahead[offset] = readers
        if done_by:
            self._pass_finished()
        return done_by

    def finish(self, offset: int) -> None:
        """Note an event as finished by all. An offset that is not in flight changes nothing."""
        unfinished = self._unfinished
        if unfinished and offset == unfinished[0]:
            if self._sources or self._ahead or self._repeats:
                self._pass()
                self._pass_finished()
            else:  # the same, without what there is none of
                self._position = unfinished.popleft() + 1
        elif unfinished and offset > unfinished[0]:
            self._version += 1
            self._ahead[offset] = EVERYBODY

    def finish_by(self, offset: int, reader: str) -> None:
        """Note an event as finished by one of several agents."""
        self._version += 1
        self._ahead[offset] = self._ahead.get(offset, EVERYBODY) | {reader}

    def _pass_finished(self) -> None:
        unfinished, ahead, repeats = self._unfinished, self._ahead, self._repeats
        while unfinished and (ahead.get(unfinished[0]) == EVERYBODY or unfinished[0] in repeats):
            self._pass()

    def _pass(self) -> None:
        offset = self._unfinished.popleft()
        self._position = offset + 1
        if self._sources and (source := self._sources.pop(offset, None)) is not None:
            producer_id, number = source
            self._applied[producer_id] = number
        self._ahead.pop(offset, None)
        self._repeats.discard(offset)

    def pending(self) -> Progress | None:
        """What has come since the last commit, if anything."""
        return self.progress() if self.has_news else None

    @property
    def has_news(self) -> bool:
        """Whether anything was finished since the last commit."""
        moved = self._position != self._committed_position
        return moved or self._version != self._committed_version

    def progress(self) -> Progress:
        """What could be committed now."""
        ahead: dict[Identity, Readers] = {
            self._sources.get(offset, offset): readers for offset, readers in self._ahead.items()
        }
        ahead |= {k: readers for k, readers in self._expected.items() if not self._is_behind(k)}
        advance = Advance(self._position, self._came - len(self._unfinished))
        return Progress(advance, ahead, dict(self._applied), self._version)

    def _is_behind(self, known: Identity) -> bool:
        """Whether an event is below the position."""
        if isinstance(known, int):
            return known < self._position
        producer_id, number = known
        return number <= self._applied.get(producer_id, 0)

    def committed(self, progress: Progress) -> None:
        """Note that a progress has been committed."""
        self._committed_position = progress.advance.position
        self._committed_version = progress.version
        self._came -= progress.advance.finished
