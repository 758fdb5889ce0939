"""How far a partition is finished.

Events of a partition are delivered in order and may finish in any; where several agents read a
topic, each finishes an event by itself. The position that can be committed is the one before the
oldest unfinished event. What is finished ahead of it is committed beside it, so that after a crash
it is not done again.

Offsets need not be consecutive, so the delivered ones are kept, not computed (Faust's own
arithmetic commits past an unfinished event: faust-streaming#606).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from connectors.transports.broker import Advance

Readers = frozenset[str]
"""Agents, by name. Of an event that all have finished, the set is empty."""

EVERYBODY: Readers = frozenset()


class Progress(NamedTuple):
    """What is finished of a partition at one moment."""

    advance: Advance
    ahead: Mapping[int, Readers]
    """Offsets above the position: who has finished them."""
    version: int


class Watermark:
    """Delivered and finished offsets of one partition."""

    def __init__(self, position: int, ahead: Mapping[int, Readers] | None = None) -> None:
        self._position = self._committed_position = position
        self._unfinished: deque[int] = deque()
        self._ahead: dict[int, Readers] = dict(ahead or {})
        self._finished_since = 0
        self._version = self._committed_version = 0

    @property
    def in_flight(self) -> int:
        """Events that were delivered and lie at or above the oldest unfinished one."""
        return len(self._unfinished)

    @property
    def position(self) -> int:
        """Everything below is finished."""
        return self._position

    def deliver(self, offsets: Sequence[int]) -> Mapping[int, Readers]:
        """Note events as delivered, in their order in the partition.

        Returns those that were finished before, and by whom: empty for all.
        """
        ahead, unfinished = self._ahead, self._unfinished
        idle = not unfinished
        unfinished.extend(offsets)
        if not ahead:
            return {}
        done_by = {offset: ahead[offset] for offset in offsets if offset in ahead}
        if idle:
            self._pass_finished()
        return done_by

    def done_by(self, offset: int) -> Readers | None:
        """Who finished an event before it was delivered: empty for all, ``None`` for nobody."""
        return self._ahead.get(offset)

    def finish(self, offset: int) -> None:
        """Note an event as finished by all. An offset that is not in flight changes nothing."""
        unfinished = self._unfinished
        if not unfinished or offset < unfinished[0]:
            return
        self._version += 1
        if not self._ahead and offset == unfinished[0]:  # in order, as nearly always
            unfinished.popleft()
            self._position = offset + 1
            self._finished_since += 1
            return
        self._ahead[offset] = EVERYBODY
        if offset == unfinished[0]:
            self._pass_finished()

    def finish_by(self, offset: int, reader: str) -> None:
        """Note an event as finished by one of several agents."""
        self._version += 1
        self._ahead[offset] = self._ahead.get(offset, EVERYBODY) | {reader}

    def pass_over(self, offset: int, reader: str) -> None:
        """Note an event as finished before it is delivered: by one agent, or without one by all."""
        if reader:
            self.finish_by(offset, reader)
        else:
            self._version += 1
            self._ahead[offset] = EVERYBODY

    def _pass_finished(self) -> None:
        unfinished, ahead = self._unfinished, self._ahead
        while unfinished and ahead.get(unfinished[0]) == EVERYBODY:
            offset = unfinished.popleft()
            del ahead[offset]
            self._position = offset + 1
            self._finished_since += 1

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
        advance = Advance(self._position, self._finished_since)
        return Progress(advance, dict(self._ahead), self._version)

    def committed(self, progress: Progress) -> None:
        """Note that a progress has been committed."""
        self._committed_position = progress.advance.position
        self._committed_version = progress.version
        self._finished_since -= progress.advance.finished
