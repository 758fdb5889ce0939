"""The rows of the table: what is done, by whom, and with how many events."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import produce, workloads
from tests.bench.events import KEYS
from tests.bench.goals import OURS
from tests.bench.peers import processes
from tests.bench.peers.contract import ROWS as WORKS
from tests.bench.peers.processes import Peer
from tests.bench.workloads import Servers, Speed
from tests.kafka_server import running_kafka

EVENTS = 100_000
ROW_FOR = 120.0
"""Seconds after which a row counts as stuck."""


Measure = Callable[[Servers], Awaitable[Speed]]


class Row(NamedTuple):
    """What is measured."""

    work: str
    key: str
    name: str
    events: int
    measure: Measure
    """Beside servers in which others have left something; raises Unavailable."""


def _reading(work: str, key: str, name: str, measure: Measure, *, keys: int = KEYS) -> Row:
    """Of our own, with events that are there before."""

    async def fill_and_measure(servers: Servers) -> Speed:
        filled = servers._replace(events=EVENTS)
        async with asyncio.timeout(ROW_FOR):
            await workloads.fill(filled, keys=keys)
            return await measure(filled)

    return Row(work, key, name, EVENTS, fill_and_measure)


def _sending(key: str, name: str, measure: Measure, events: int) -> Row:
    """Of our own, with nothing there before."""

    async def clear_and_measure(servers: Servers) -> Speed:
        async with asyncio.timeout(ROW_FOR):
            await workloads.clear(servers)
            return await measure(servers._replace(events=events))

    return Row("produce", key, name, events, clear_and_measure)


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


OUR_ROWS = (
    _reading("consume", OURS, "agent, dict values", workloads.consume),
    _reading("consume", "pydantic", "agent, pydantic values", workloads.consume_typed),
    _reading("count", OURS, "exactly once in Postgres, 1,000 keys", workloads.count_in_table),
    _reading("count", "at least once", "  at least once", workloads.count_at_least_once),
    _reading("count", "10 keys", "  the same with 10 keys", workloads.count_in_table, keys=10),
    _reading("count", "new keys", "  a new key per event", workloads.count_in_table, keys=EVENTS),
    _reading("count", "upserts", "bare asyncpg loop: its upserts, no events", workloads.upsert),
    _reading(
        "count", "memory", "Faust's table in memory, at least once", workloads.count_in_memory
    ),
    _reading("transform", OURS, "send an event for each, exactly once", workloads.transform_once),
    _reading("transform", "at least once", "  at least once", workloads.transform),
    _sending(OURS, "topic.send(), 1,000 awaited together", produce.send, 50_000),
    _sending("many", "outbox, transactions of 100 events", produce.publish_many, 10_000),
    _sending("singly", "  of one event", produce.publish_singly, 5_000),
)


def rows(peers: Sequence[Peer], versions: dict[str, Mapping[str, str]]) -> Sequence[Row]:
    """Ours and theirs, by work. What peers are made of is noted when they have been measured."""
    return [
        row
        for work in WORKS
        for row in (
            *(row for row in OUR_ROWS if row.work == work),
            *(_of(peer, work, versions) for peer in peers if work in peer.events),
        )
    ]
