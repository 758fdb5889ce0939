"""A broker that speaks Kafka's protocol: a stand-in of one process, or a real one by its address.

The stand-in (PyPI's ``noida-db``) keeps what it was given on disk and knows idempotent producers.
``KAFKA_BOOTSTRAP=host:port`` has the tests work with a real cluster, whose topics they delete.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.consumer.fetcher import Fetcher

from app.embedded.process import (
    Server,
    StopPlan,
    on_port,
    start_server,
    until_ready,
    working_directory,
)

BOOTSTRAP = "KAFKA_BOOTSTRAP"
LONG_POLL = 0.02
"""Seconds between two requests for entries while there are none."""
STOP: StopPlan = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 1.0))


@dataclass(frozen=True)
class RunningKafka:
    """A server, and where it listens."""

    server: Server
    port: int

    @property
    def url(self) -> str:
        """Of the broker."""
        return f"kafka://127.0.0.1:{self.port}"


async def start_kafka(directory: Path, *, port: int | None = None) -> RunningKafka:
    """Start the stand-in on the data in a directory."""
    directory = working_directory(directory)

    async def start(free: int) -> RunningKafka:
        options = ["--data-dir", str(directory / "data"), "--only", "kafka"]
        server = await start_server(
            "Kafka",
            [str(_binary()), "start", *options, "--kafka-port", str(free)],
            cwd=directory,
            log=directory / "server.log",
            plan=STOP,
        )
        await until_ready(server, "press Ctrl-C", lambda: _prove(f"127.0.0.1:{free}"))
        return RunningKafka(server, free)

    return await on_port(port, start)


@asynccontextmanager
async def running_kafka(directory: Path) -> AsyncIterator[str]:
    """The URL of a broker: of the stand-in, unless the environment names another."""
    if (bootstrap := os.environ.get(BOOTSTRAP)) is not None:
        yield f"kafka://{bootstrap}"
        return
    running = await start_kafka(directory)
    try:
        yield running.url
    finally:
        await running.server.stop()


@asynccontextmanager
async def running_admin(url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Kafka's own tool."""
    admin = AIOKafkaAdminClient(bootstrap_servers=url.removeprefix("kafka://"))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def poll_slowly() -> None:
    """Make consumers of this process wait where Kafka would make them wait.

    Kafka answers a request for entries when there are some, or half a second later. The stand-in
    answers at once, so a consumer at the end of a log asks some thousand times a second.
    """
    fetch: Any = Fetcher._proc_fetch_request

    async def wait_for_entries(*arguments: Any) -> bool:
        has_entries: bool = await fetch(*arguments)
        if not has_entries:
            # Cancelled when its answer is not wanted any more, as the request itself is.
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(LONG_POLL)
        return has_entries

    Fetcher._proc_fetch_request = wait_for_entries


async def delete_topics(url: str) -> None:
    """Delete all topics but Kafka's own."""
    async with running_admin(url) as admin:
        topics = [topic for topic in await admin.list_topics() if not topic.startswith("__")]
        if topics:
            await admin.delete_topics(topics)


def delete_all_topics(url: str) -> None:
    """The same, for who has no event loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, delete_topics(url)).result()


async def _prove(bootstrap: str) -> None:
    async with running_admin(bootstrap):
        pass


def _binary() -> Path:
    spec = importlib.util.find_spec("noida_db")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).with_name("noida-db")
