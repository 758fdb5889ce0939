"""Appends events at a steady rate, in a process of its own: ``feed.py BROKER RATE EVENTS KEYS``."""

from __future__ import annotations

import asyncio
import sys
import time

from redfaust.brokers.broker import ProducerBatch, SequencedEntry
from redfaust.transports.by_url import broker_by_url
from tests.bench.events import PARTITIONS
from tests.bench.workloads import event

EVERY = 0.002
"""Seconds between two batches."""


async def feed(url: str, rate: float, events: int, keys: int) -> None:
    """Append so many events, at so many per second or, should the broker be slower, behind that.

    Each says when it was sent. They go in a producer, since one call for all entries takes less of
    the machine than one for each.
    """
    broker = broker_by_url(url, default_partitions=PARTITIONS)
    await broker.open()
    started, sent = time.perf_counter(), 0
    while sent < events:
        due = min(events, int((time.perf_counter() - started) * rate))
        if due > sent:
            now = time.time_ns()
            batch = [SequencedEntry(n + 1, event(n, keys, sent=now)) for n in range(sent, due)]
            await broker.append_once([ProducerBatch("feed", batch)])
            sent = due
        await asyncio.sleep(EVERY)
    await broker.close()


if __name__ == "__main__":
    _, url, rate, events, keys = sys.argv
    asyncio.run(feed(url, float(rate), int(events), int(keys)))
