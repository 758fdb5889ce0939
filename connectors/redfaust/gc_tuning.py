"""How often a worker looks for objects that keep nothing but each other alive.

Python's collector goes through the youngest objects after each 700 that were made. An event is a
dozen objects which live until they are committed and then go by themselves, so a worker spends a
third of its time on looking at them in vain. What a worker has loaded when it starts stays anyway.
"""

from __future__ import annotations

import gc

THRESHOLDS = (50_000, 20, 100)
"""Objects more than before until the youngest are looked at, which takes some 5 ms and lets garbage
of about 10 MB gather; how often that until those that stayed are; and how often that until all."""

_PYTHONS = {(700, 10, 10), (2000, 10, 10), (2000, 10, 0)}
"""What releases of Python come with."""


def tune_gc() -> None:
    """Look for garbage less often, in a process that is a worker.

    An application that has set thresholds itself, or has switched the collector off, keeps them.
    """
    if gc.get_threshold() not in _PYTHONS or not gc.isenabled():
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
