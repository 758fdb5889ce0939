"""What happened, as it can be read when everything is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from faust.types import TP

from redfaust.brokers.broker import Broker, Record
from redfaust.brokers.kafka.broker import KafkaBroker
from redfaust.postgres.database import Database
from tests.torture.ledger import (
    APP,
    AUDITED,
    BOOKED,
    ENTRIES,
    PARTITIONS,
    TABLES,
    TRANSFERS,
    Agent,
    Row,
)
from tests.torture.plan import Plan

READ_LIMIT = 5000
NUMBER = "number"
"""The header that numbers a transfer, since not all can be decoded."""


class Entry(NamedTuple):
    """An entry of a stream."""

    partition: int
    offset: int
    number: int | None
    """Of the transfer that it is about; ``None`` where nobody knows."""
    key: str
    value: bytes | None

    @property
    def decoded(self) -> dict[str, Any]:
        """The value, which has to be JSON."""
        decoded: dict[str, Any] = orjson.loads(self.value or b"null")
        return decoded


class Letter(NamedTuple):
    """A dead letter."""

    agent: str
    topic: str
    partition: int
    offset: int
    value: bytes | None


class Left(NamedTuple):
    """What should be nothing when everything is processed."""

    outbox: int
    """Rows of the outbox, and batches, that are not on their streams."""
    parked: int
    """Events that wait for another attempt."""
    lag: int
    """Entries that the group has not finished, as Redis tells everybody."""
    ahead: int
    """Partitions whose progress still names events above the position."""


@dataclass
class History:
    """All that the checker looks at."""

    plan: Plan
    streams: dict[str, list[Entry]]
    """Per topic, in order per partition."""
    written: set[int]
    """Numbers in the plain table that outbox transactions write beside their events."""
    tables: dict[Agent, dict[str, Row]]
    letters: list[Letter]
    left: Left
    failed_over: bool = False
    """Whether a Redis that lacked entries has taken over: they came again, each producer's in their
    order, but not as they lay among those of others."""


async def collect(plan: Plan, broker: Broker, database: Database, *, failed_over: bool) -> History:
    """Read everything. Nobody must be at work any more."""
    topics = (TRANSFERS, ENTRIES, BOOKED, AUDITED)
    return History(
        plan,
        {topic: await _entries(broker, topic) for topic in topics},
        {row["number"] for row in await database.pool.fetch("SELECT number FROM written")},
        {agent: await _rows(database, TABLES[agent]) for agent in Agent},
        await _letters(database),
        Left(
            await unpublished(database),
            await parked(database),
            await _lag(broker),
            await _ahead(database),
        ),
        failed_over,
    )


async def unpublished(database: Database) -> int:
    """What is in the database and perhaps not on its stream."""
    async with database.transaction() as connection:
        count: int = await connection.fetchval(
            "SELECT (SELECT count(*) FROM redfaust.outbox)"
            " + (SELECT count(*) FROM redfaust.batches WHERE published_at IS NULL)"
        )
    return count


async def parked(database: Database) -> int:
    """Events that wait for another attempt, or behind one that does."""
    async with database.transaction() as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM redfaust.parked")
    return count


async def behind(broker: Broker, database: Database, topic: str) -> Sequence[int]:
    """By how much the committed position of each partition is not yet at its end."""
    tps = [TP(topic, partition) for partition in range(PARTITIONS)]
    bounds = await broker.bounds(tps)
    async with database.transaction() as connection:
        rows = await connection.fetch(
            "SELECT partition, position FROM redfaust.positions WHERE app = $1 AND topic = $2",
            APP,
            topic,
        )
    positions = {row["partition"]: int(row["position"]) for row in rows}
    return [end - positions.get(tp.partition, first) for tp, (first, end) in bounds.items()]


async def _lag(broker: Broker) -> int:
    partitions = [
        partition for topic in (TRANSFERS, ENTRIES) for partition in await broker.status(APP, topic)
    ]
    return sum(partition.lag for partition in partitions)


async def _ahead(database: Database) -> int:
    count: int = await database.pool.fetchval(
        "SELECT count(*) FROM redfaust.positions WHERE app = $1 AND ahead <> '{}'", APP
    )
    return count


async def _entries(broker: Broker, topic: str) -> list[Entry]:
    entries: list[Entry] = []
    tps = [TP(topic, partition) for partition in range(PARTITIONS)]
    positions = {tp: first for tp, (first, _) in (await broker.bounds(tps)).items()}
    known = _recognition(broker)
    while logs := await broker.read(positions, limit=READ_LIMIT, wait=0):
        for tp, records in logs.items():
            entries += [_entry(tp, record) for record in records if not known(tp, record)]
            positions[tp] = records[-1].offset + 1
    return entries


def _recognition(broker: Broker) -> Callable[[TP, Record], bool]:
    """What a consumer knows again: on Kafka an entry may lie on its log twice, where who appended
    it was killed meanwhile. It counts once, by its producer and number."""
    last: dict[tuple[TP, str], int] = {}

    def is_known(tp: TP, record: Record) -> bool:
        if record.source is None or not isinstance(broker, KafkaBroker):
            return False
        producer_id, number = record.source
        known = number <= last.get((tp, producer_id), 0)
        last[tp, producer_id] = max(number, last.get((tp, producer_id), 0))
        return known

    return is_known


def _entry(tp: TP, record: Record) -> Entry:
    key = (record.key or b"").decode()
    return Entry(tp.partition, record.offset, _number(record), key, record.value)


def _number(record: Record) -> int | None:
    header = dict(record.headers).get(NUMBER)
    if header is not None:
        return int(header)
    try:
        number = orjson.loads(record.value or b"null")[NUMBER]
    except (ValueError, TypeError, LookupError):
        return None
    return number if isinstance(number, int) else None


async def _rows(database: Database, table: str) -> dict[str, Row]:
    rows = await database.pool.fetch(f"SELECT key, value FROM {APP}.{table}")
    return {row["key"]: _row(row["value"]) for row in rows}


def _row(value: Mapping[str, int]) -> Row:
    return Row(*(value[name] for name in Row._fields))


async def _letters(database: Database) -> list[Letter]:
    rows = await database.pool.fetch(
        "SELECT agent, topic, partition, position, value FROM redfaust.dead_letters WHERE app = $1",
        APP,
    )
    return [
        Letter(
            _agent(row["agent"]), row["topic"], row["partition"], int(row["position"]), row["value"]
        )
        for row in rows
    ]


def _agent(name: str | None) -> str:
    """The agent of a letter; one about a refused row names the row's table."""
    writers = {f'PostgresStore: "{APP}"."{table}"': agent for agent, table in TABLES.items()}
    return writers.get(name or "", name or "")
