"""An application with nothing to do: ``faust -A tests.bench.idle_worker worker``."""

from __future__ import annotations

import os
from typing import Any

import faust

from tests.bench.idle import ID, PARTITIONS, TOPICS

app = faust.App(
    ID,
    broker=os.environ["BROKER"],
    store=os.environ["STORE"],
    web_enabled=False,
    topic_partitions=PARTITIONS,
)
counts = app.Table("counts", default=int, key_type=str, value_type=int)


@app.agent(app.topic(*TOPICS, key_type=str))
async def count(stream: Any) -> None:
    """Counts per key."""
    async for event in stream.events():
        counts[event.key] += 1
