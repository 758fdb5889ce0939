"""Which members are dead, by the observer's own clock alone.

An observer counts its own time, which passes only while its own heartbeats are answered: after
each, by no more than the interval between two of them. So a broker that was away, or an observer
that was stopped, makes nobody look dead. A member without a heartbeat for :data:`SILENCE` of that
time is dead.

A member may rely on what it owns until :data:`SILENCE` after it *sent* its last answered heartbeat.
An observer counts from the *answer* by which it learnt of that heartbeat. As far as both clocks run
equally fast, a member stops before an observer lets anybody begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redfaust.brokers.broker import HEARTBEAT, SILENCE


class FailureDetector:
    """What one observer knows of the members."""

    def __init__(self) -> None:
        self._time = 0.0
        self._answered: float | None = None
        self._last: dict[str, tuple[int, float]] = {}
        self._silent: frozenset[str] = frozenset()

    @property
    def silent(self) -> Mapping[str, int]:
        """The dead, with the numbers of their last heartbeats; 0 for a member that has none."""
        return {member: self._last[member][0] for member in self._silent}

    def heard(
        self,
        heartbeats: Mapping[str, int],
        expected: Iterable[str],
        *,
        sent: float,
        answered: float,
    ) -> None:
        """Note the numbers of all members' heartbeats, as the answer to a heartbeat of one's own.

        ``expected`` are members that should have one. Both times are of the monotonic clock.
        """
        if self._answered is not None:
            self._time += min(sent - self._answered, HEARTBEAT)
        asked = self._time
        self._time += min(answered - sent, HEARTBEAT)
        self._answered = answered
        numbers = dict.fromkeys(expected, 0) | dict(heartbeats)
        self._last = {
            member: last
            if (last := self._last.get(member)) and last[0] == number
            else (number, self._time)
            for member, number in numbers.items()
        }
        self._silent = frozenset(
            member for member, (_, since) in self._last.items() if asked - since >= SILENCE
        )
