"""The rows of the table: what is done, by which program, and with how many events."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import workloads
from tests.bench.ours import OUR_ROWS, ROW_FOR, OurRow
from tests.bench.peers import environments, processes
from tests.bench.peers.contract import ROWS as WORKS
from tests.bench.peers.processes import Peer
from tests.bench.workloads import Servers, Speed
from tests.kafka_server import running_kafka


class Row(NamedTuple):
    """What is measured."""

    work: str
    key: str
    name: str
    events: int
    measure: Callable[[Servers], Awaitable[Speed]]
    """In a new process, beside servers in which others have left something; raises Unavailable."""


def _ours(row: OurRow) -> Row:
    async def measure(servers: Servers) -> Speed:
        command = (sys.executable, "-m", "tests.bench.ours", row.work, row.key)
        urls = (servers.broker, servers.database)
        printed = await environments.run(*command, *urls, within=ROW_FOR)
        return Speed(**json.loads(printed.splitlines()[-1]))

    return Row(row.work, row.key, row.name, row.events, measure)


def _of(peer: Peer, work: str, versions: dict[str, Mapping[str, str]]) -> Row:
    async def measure(servers: Servers) -> Speed:
        await workloads.clear(servers)
        async with _broker_of(peer, servers) as url:
            result = await processes.measure(peer, work, url)
        versions[peer.module] = result["versions"]
        return Speed(result["events_per_second"], result["cpu"])

    return Row(work, peer.module, peer.name, peer.events[work], measure)


@contextlib.asynccontextmanager
async def _broker_of(peer: Peer, servers: Servers) -> AsyncIterator[str]:
    """Kafka takes nothing of the machine but while it is measured."""
    if not peer.on_kafka:
        yield servers.broker
        return
    with tempfile.TemporaryDirectory(prefix="redfaust-bench-kafka-") as directory:
        async with running_kafka(Path(directory)) as url:
            yield url


def rows(peers: Sequence[Peer], versions: dict[str, Mapping[str, str]]) -> Sequence[Row]:
    """Ours and theirs, by work. What peers are made of is noted when they have been measured."""
    return [
        row
        for work in WORKS
        for row in (
            *(_ours(row) for row in OUR_ROWS if row.work == work),
            *(_of(peer, work, versions) for peer in peers if work in peer.events),
        )
    ]
