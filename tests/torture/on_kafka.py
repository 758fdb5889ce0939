"""A broker that speaks Kafka's protocol. Nothing is done to it: it is a stand-in for a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kafka_server import running_kafka


@dataclass(frozen=True)
class Kafka:
    """It runs."""

    url: str

    @property
    def bootstrap(self) -> str:
        """Where its own clients connect to."""
        return self.url.removeprefix("kafka://")


@asynccontextmanager
async def running_stand_in(directory: Path) -> AsyncIterator[Kafka]:
    """One during the block."""
    async with running_kafka(directory / "kafka") as url:
        yield Kafka(url)
