"""What Faust's built-in monitor is told.

Of many events at once, since asking it about each would cost more than the event does. Where there
are other sensors all of them see each one, as in Faust.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from faust.sensors import Monitor
from faust.types import AppT, StreamT


def only_monitor(app: AppT) -> Monitor | None:
    """The built-in monitor, if nobody else watches."""
    sensors = list(app.sensors)
    return sensors[0] if [type(sensor) for sensor in sensors] == [Monitor] else None


class Tally:
    """What one stream tells the monitor."""

    def __init__(self, monitor: Monitor, stream: StreamT[Any]) -> None:
        self._monitor = monitor
        self._stream, self._task = str(stream), str(stream.task_owner)
        self._taken = self._done = self._active = 0
        self._since = monotonic()

    def tell(self, taken: int, done: int, active: int) -> None:
        """So many events have been taken up since the beginning, and so many of them are done; so
        many are in progress from now on.

        What one took is the average of those since the last time, without the time spent waiting.
        """
        now, monitor = monotonic(), self._monitor
        new, self._taken = taken - self._taken, taken
        monitor.events_total += new
        monitor.events_by_stream[self._stream] += new
        monitor.events_by_task[self._task] += new
        if done > self._done:
            monitor.events_runtime.append((now - self._since) / (done - self._done))
            self._done, self._since = done, now
        elif not self._active:
            self._since = now
        monitor.events_active += active - self._active
        self._active = active
