"""The application that is given much to do: ``faust -A tests.bench.counting_worker worker``."""

from __future__ import annotations

import os
from typing import Any

import faust

from tests.bench.backlog import ID
from tests.bench.events import TOPIC

app = faust.App(
    ID,
    broker=os.environ["BROKER"],
    store=os.environ["STORE"],
    web_enabled=False,
    topic_disable_leader=True,
)
counts = app.Table("counts", default=int, key_type=str, value_type=int)


@app.agent(app.topic(TOPIC, key_type=str))
async def count(stream: Any) -> None:
    """Counts per key, exactly once."""
    async for event in stream.events():
        counts[event.key] += 1
