"""What is fuzzed: servers, two workers and a web server, and how each act is done to them."""

from __future__ import annotations

import asyncio
import enum
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisError

from app.embedded import running_postgres, running_valkey
from app.embedded.process import free_port
from redfaust.brokers.broker import Broker, TopicSpec
from redfaust.brokers.partitioner import partition_of
from redfaust.brokers.redis import keys
from redfaust.brokers.url import BrokerUrl
from redfaust.postgres.database import Database
from redfaust.transports.by_url import broker_by_url
from tests.fuzz import ledger
from tests.fuzz.acts import (
    Act,
    AddGroup,
    Append,
    Ask,
    Delete,
    EditRow,
    Forge,
    InsertRow,
    Publish,
    Replace,
    WriteField,
)
from tests.kafka_server import running_kafka
from tests.redis_cluster import running_cluster
from tests.rights import (
    PASSWORD,
    as_administrator,
    as_owner,
    as_web,
    as_worker,
    with_known_password,
)
from tests.torture.processes import Process

WORKERS = 2
NO_SYNC = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
ASK_WITHIN = 30.0
"""Seconds after which a request is given up; what is late is noted long before."""


class BrokerKind(enum.Enum):
    """What the installation works on."""

    VALKEY = "a Valkey"
    CLUSTER = "a Redis Cluster"
    KAFKA = "a broker that speaks Kafka's protocol"


class Client(Protocol):
    """How foreign clients reach the broker."""

    async def append(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Append an event of the good traffic."""

    async def do(self, act: Act, database: Database) -> None:
        """Do one of the acts that concern the broker; what is refused is refused."""

    async def heal(self) -> None:
        """Take away what keeps redfaust from its own keys."""

    async def close(self) -> None:
        """Disconnect."""


class OnRedis:
    """A client that may do anything."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.replaced: set[str] = set()
        """Keys that have another type now."""

    async def append(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        fields = ("_v", value, "_k", key)
        await self._client.execute_command("XADD", _stream(topic, partition), "*", *fields)

    async def do(self, act: Act, database: Database) -> None:
        with suppress(RedisError):
            match act:
                case Append(topic, partition, fields):
                    flat = [part for pair in fields for part in pair]
                    await self._call("XADD", _stream(topic, partition), "*", *flat)
                case Forge(topic, partition, ahead):
                    source = await _forged(database, ahead)
                    junk = ("_v", b"junk", "_k", b"bad", "_i", source)
                    await self._call("XADD", _stream(topic, partition), "*", *junk)
                case WriteField(key, name, value):
                    await self._call("HSET", key, name, value)
                case Replace(key):
                    await self._call("SET", key, "x")
                    self.replaced.add(key)
                case Delete(key):
                    await self._call("DEL", key)
                    self.replaced.discard(key)
                case AddGroup(topic, partition, name):
                    # At the end: a group that is behind rightly keeps what it has not finished.
                    await self._call("XGROUP", "CREATE", _stream(topic, partition), name, "$")

    async def _call(self, *arguments: Any) -> None:
        await self._client.execute_command(*arguments)

    async def heal(self) -> None:
        for key in self.replaced:
            # Redfaust may have put its own there since.
            if await self._client.execute_command("TYPE", key) in (b"string", "string"):
                await self._call("DEL", key)
        self.replaced.clear()

    async def close(self) -> None:
        await self._client.aclose()


class OnKafka:
    """A producer, since nothing else of a Kafka is anybody's."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    async def append(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        await self._producer.send_and_wait(topic, value, key=key, partition=partition)

    async def do(self, act: Act, database: Database) -> None:  # noqa: ARG002 - Redis's needs it
        if not isinstance(act, Append):
            return
        named = dict(act.fields)
        headers = [
            (name.decode("utf-8", "replace"), value)
            for name, value in act.fields
            if name not in {b"_v", b"_k"}
        ]
        if b"_i" in named:
            headers.append(("redfaust-source", named[b"_i"]))
        with suppress(KafkaError, AssertionError):
            await self._producer.send_and_wait(
                act.topic,
                named.get(b"_v"),
                key=named.get(b"_k"),
                partition=act.partition,
                headers=headers,
            )

    async def heal(self) -> None:
        """Nothing is in the way."""

    async def close(self) -> None:
        await self._producer.stop()


def _stream(topic: str, partition: int) -> str:
    return keys.stream(TP(topic, partition))


async def _forged(database: Database, ahead: int) -> str:
    row = await database.pool.fetchrow(
        "SELECT producer_id, last_sequence FROM redfaust.producers "
        "ORDER BY last_sequence DESC LIMIT 1"
    )
    producer_id, number = ("0123456789abcdef", 0) if row is None else row
    return f"{producer_id}:{number + ahead}:0123456789abcdef"


@dataclass
class Installation:
    """All of it, while it runs."""

    kind: BrokerKind
    broker: Broker
    database: Database
    client: Client
    processes: Sequence[Process]
    web: str
    """The URL of the web server."""
    session: aiohttp.ClientSession
    environ: Mapping[str, str]
    """With which redfaust's commands find the servers."""
    edited: set[tuple[str, str]] = field(default_factory=set)
    """Tables and keys of rows that were edited by hand."""

    async def do(self, act: Act) -> None:
        """Do an act."""
        match act:
            case InsertRow():
                await self._execute(
                    "INSERT INTO redfaust.outbox "
                    "(topic, partition, key, value, headers, timestamp, available_at) "
                    "VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7::text::timestamptz)",
                    *(act.topic, act.partition, act.key, act.value, act.headers),
                    *(act.timestamp, act.available_at),
                )
            case Publish(topic, key, value, headers):
                await self._execute(
                    "SELECT redfaust.publish($1, $2, $3::text::jsonb, $4::text::jsonb)",
                    *(topic, key, value, headers),
                )
            case EditRow(table, key, value):
                await self._edit(table, key, value)
            case Ask(path, headers):
                await self._ask(path, headers)
            case _:
                await self.client.do(act, self.database)

    async def _execute(self, query: str, *arguments: object) -> None:
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
            await self.database.pool.execute(query, *arguments)

    async def _edit(self, table: str, key: str, value: str) -> None:
        await self._execute(
            f"INSERT INTO {ledger.APP}.{table} (key, value, partition) "
            "VALUES ($1, $2::text::jsonb, $3) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            *(key, value, partition_of(key.encode(), ledger.PARTITIONS)),
        )
        self.edited.add((table, key))

    async def _ask(self, path: str, headers: Sequence[tuple[str, str]]) -> None:
        with suppress(aiohttp.ClientError, TimeoutError, ValueError):
            async with self.session.get(self.web + path, headers=dict(headers)) as answer:
                await answer.read()

    async def heal(self) -> None:
        """Take away what is in the way: other types at keys, rows that nobody can read."""
        await self.client.heal()
        for table, key in list(self.edited):
            await self._edit(table, key, "{}")
        self.edited.clear()


@asynccontextmanager
async def running_installation(kind: BrokerKind, directory: Path) -> AsyncIterator[Installation]:
    """All of it during the block."""
    async with AsyncExitStack() as stack:
        url = await _broker(kind, directory, stack)
        postgres = await stack.enter_async_context(
            running_postgres(with_known_password(directory / "postgres"), options=NO_SYNC)
        )
        store = as_worker(postgres.url)
        await _create_tables(url, as_owner(postgres.url))
        # Whoever attacks may write everything.
        database = await Database.connect(postgres.url, application_name="fuzz")
        stack.push_async_callback(database.close)
        broker = broker_by_url(url, default_partitions=ledger.PARTITIONS, store=store)
        await broker.open()
        stack.push_async_callback(broker.close)
        for topic in ledger.TOPICS:
            await broker.create_topic(TopicSpec(topic, ledger.PARTITIONS))
        client = await _client(kind, url)
        stack.push_async_callback(client.close)
        port = free_port()
        environ = {
            ledger.BROKER_VARIABLE: url,
            ledger.DATABASE_VARIABLE: store,
            "REDFAUST_BROKER": url,
            "REDFAUST_DATABASE": store,
            "REDFAUST_APP_ID": ledger.APP,
            "REDFAUST_PORT": str(port),
            "REDFAUST_PARTITIONS": str(ledger.PARTITIONS),
            "REDFAUST_LOG_LEVEL": "warning",
        }
        processes = [
            *(
                Process(f"worker-{number}", ["tests.fuzz.worker"], environ, directory)
                for number in range(WORKERS)
            ),
            Process(
                "web", ["app", "web"], {**environ, **_urls_of_web(kind, url, store)}, directory
            ),
        ]
        timeout = aiohttp.ClientTimeout(total=ASK_WITHIN)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        yield Installation(
            kind, broker, database, client, processes, f"http://127.0.0.1:{port}", session, environ
        )


def _urls_of_web(kind: BrokerKind, broker: str, store: str) -> Mapping[str, str]:
    """A broker that is no Redis has no roles."""
    return {
        "REDFAUST_BROKER": broker if kind is BrokerKind.KAFKA else as_web(broker),
        "REDFAUST_DATABASE": as_web(store),
    }


async def _create_tables(broker: str, store: str) -> None:
    """As an owner does, before workers start that may only read and write."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "faust", "-A", "tests.fuzz.worker", "create-tables"),
        env={**os.environ, ledger.BROKER_VARIABLE: broker, ledger.DATABASE_VARIABLE: store},
        stdout=asyncio.subprocess.DEVNULL,
    )
    if await process.wait() != 0:
        raise RuntimeError("the tables could not be created")


async def _broker(kind: BrokerKind, directory: Path, stack: AsyncExitStack) -> str:
    match kind:
        case BrokerKind.VALKEY:
            running = running_valkey(with_known_password(directory / "valkey"))
            return as_worker((await stack.enter_async_context(running)).url)
        case BrokerKind.CLUSTER:
            cluster = running_cluster(directory / "cluster", with_replica=False)
            return (await stack.enter_async_context(cluster)).url
        case BrokerKind.KAFKA:
            return await stack.enter_async_context(running_kafka(directory / "kafka"))


async def _client(kind: BrokerKind, url: str) -> Client:
    parsed = BrokerUrl.parse(url)
    match kind:
        case BrokerKind.VALKEY:
            return OnRedis(Redis.from_url(as_administrator(url), protocol=2))
        case BrokerKind.CLUSTER:
            host, _, port = parsed.hosts[0].partition(":")
            return OnRedis(RedisCluster(host, int(port), password=PASSWORD, protocol=2))
        case BrokerKind.KAFKA:
            producer = AIOKafkaProducer(bootstrap_servers=list(parsed.hosts), acks="all")
            await producer.start()
            return OnKafka(producer)
