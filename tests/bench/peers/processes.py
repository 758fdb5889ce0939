"""Which peers there are, and how one is run."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import NamedTuple, cast

from tests.bench.peers.contract import Result
from tests.bench.peers.environments import python_of, run

RUN_FOR = 60.0
"""Seconds after which a peer counts as stuck."""


class Peer(NamedTuple):
    """Somebody who can do some of the rows."""

    module: str
    """Below this package; its first part has the environment, or is ``bare``."""
    name: str
    events: Mapping[str, int]
    """By the row, on how many: as many as take a second or so."""

    @property
    def on_kafka(self) -> bool:
        """Whether it reads from Kafka rather than Redis."""
        return self.module.endswith("kafka")

    @property
    def is_bare(self) -> bool:
        """Whether it is no framework, but a loop around a client."""
        return self.module.startswith("bare.")


BARE = Peer(
    "bare.default",
    "bare redis-py loop",
    {"consume": 100_000, "count": 100_000, "transform": 30_000, "produce": 50_000},
)
BARE_RELAXED = Peer("bare.relaxed", "  the same with a worker's collector", BARE.events)
BARE_RAW = Peer("bare.raw", "  on raw replies, with the same", {"consume": 100_000})
FAUST = Peer(
    "faust.on_redis",
    "Faust's own machinery on a plain Redis driver",
    {"consume": 10_000, "count": 5_000, "transform": 5_000, "produce": 10_000},
)
FASTSTREAM_BATCH = Peer(
    "faststream.batch",
    "FastStream, batches",
    {"consume": 50_000, "count": 30_000, "transform": 20_000, "produce": 20_000},
)
PEERS = (
    BARE,
    BARE_RELAXED,
    BARE_RAW,
    FASTSTREAM_BATCH,
    Peer(
        "faststream.single",
        "FastStream, one by one",
        {"consume": 5_000, "count": 4_000, "transform": 3_000},
    ),
    FAUST,
    Peer(
        "faust.on_kafka",
        "Faust's own driver, Kafka's protocol",
        {"consume": 10_000, "count": 5_000, "transform": 5_000, "produce": 10_000},
    ),
    Peer(
        "runnel.batch",
        "runnel, batches",
        {"consume": 10_000, "count": 10_000, "transform": 5_000, "produce": 10_000},
    ),
    Peer(
        "taskiq.streams",
        "taskiq",
        {"consume": 3_000, "count": 3_000, "transform": 2_000, "produce": 3_000},
    ),
    Peer(
        "protean.handlers",
        "protean",
        {"consume": 1_000, "count": 1_000, "transform": 1_000, "produce": 1_000},
    ),
)


async def prepare(peer: Peer) -> None:
    """Make its environment; raises Unavailable."""
    if not peer.is_bare:
        await python_of(peer.module.partition(".")[0])


async def measure(peer: Peer, row: str, url: str, *, events: int | None = None) -> Result:
    """Have a peer do a row; raises Unavailable. The broker is empty."""
    environment = peer.module.partition(".")[0]
    python = sys.executable if peer.is_bare else str(await python_of(environment))
    count = peer.events[row] if events is None else events
    printed = await run(
        *(python, "-m", f"{__package__}.{peer.module}", row, url, str(count)), within=RUN_FOR
    )
    return cast("Result", json.loads(printed.splitlines()[-1]))
