"""Redis Cluster as a broker, while slots move and nodes fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from faust.types import TP
from redis.asyncio import Redis
from redis.crc import key_slot

from app.embedded.binaries import find_valkey
from redfaust.brokers.broker import Outgoing, TopicSpec
from redfaust.brokers.redis import RedisBroker, keys
from redfaust.brokers.redis.offsets import BEGINNING
from redfaust.brokers.redis.servers import servers_by_url
from redfaust.errors import BrokerError, BrokerUnavailable
from redfaust.outbox.outbox import Outbox
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from tests.conftest import REDIS_SERVER
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.integration.test_failover import quickly, relaying
from tests.redis_cluster import (
    Node,
    RedisCluster,
    has_taken_over,
    nodes,
    running_cluster,
    start_node,
)
from tests.rights import PASSWORD, as_administrator

__all__ = ["quickly"]

KEYS = 8
ROUNDS = 10
PARTITIONS = 4
TPS = [TP("numbers", partition) for partition in range(PARTITIONS)]
EVERYWHERE = dict.fromkeys(TPS, BEGINNING)
BINARY = Path(REDIS_SERVER) if REDIS_SERVER else None


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RedisCluster]:
    async with running_cluster(tmp_path, BINARY) as cluster:
        yield cluster


@pytest.fixture
async def broker(cluster: RedisCluster) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(cluster.url, default_partitions=PARTITIONS)
    await broker.open()
    yield broker
    await broker.close()


class Work:
    """An application that keeps what it was sent, and sends it on; and who sends to it."""

    def __init__(self, cluster: RedisCluster, database: Database, rows: asyncpg.Pool) -> None:
        self._cluster = cluster
        self._database = database
        self._rows = rows
        self.sent = 0

    async def send(self, rounds: int = ROUNDS) -> None:
        """One number for each key in each round."""
        for number in range(self.sent, self.sent + rounds):
            async with Outbox(self._database).transaction() as tx:
                for key in range(KEYS):
                    await tx.publish("numbers", b"%d" % number, key=f"key-{key}")
        self.sent += rounds

    async def is_done(self) -> None:
        """Wait until everything was applied, and has arrived where it was sent on to."""
        await eventually(self._is_applied)
        await eventually(self._has_arrived)

    async def goes_on(self) -> None:
        """Send some, and wait until it is done."""
        await self.send(2)
        await self.is_done()

    async def _is_applied(self) -> bool:
        return sum(map(len, (await self.applied()).values())) >= self.sent * KEYS

    async def _has_arrived(self) -> bool:
        return sum(map(len, (await self.arrived()).values())) >= self.sent * KEYS

    async def applied(self) -> dict[str, list[int]]:
        """What the table has, by key."""
        rows = await self._rows.fetch("SELECT key, value FROM test.sums")
        return {row["key"]: row["value"] for row in rows}

    async def arrived(self) -> dict[str, list[int]]:
        """What was sent on, by key."""
        broker = RedisBroker(self._cluster.url, default_partitions=PARTITIONS)
        positions = {TP("seen", tp.partition): BEGINNING for tp in TPS}
        try:
            logs = await broker.read(positions, limit=10**6, wait=0)
        except BrokerUnavailable:
            return {}
        finally:
            await broker.close()
        found: dict[str, list[int]] = {}
        for log in logs.values():
            for record in log:
                found.setdefault((record.key or b"").decode(), []).append(int(record.value or b""))
        return found

    async def was_done_once_and_in_order(self) -> None:
        expected = {f"key-{key}": list(range(self.sent)) for key in range(KEYS)}
        assert await self.applied() == expected
        assert await self.arrived() == expected


@asynccontextmanager
async def working(cluster: RedisCluster, database_url: str) -> AsyncIterator[Work]:
    app = new_app(cluster.url, database_url)
    numbers, seen = app.topic("numbers", key_type=str), app.topic("seen", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=list, default=list)

    @app.agent(numbers)
    async def add(stream: Any) -> None:
        async for key, number in stream.items():
            sums[key] = [*sums[key], number]
            await seen.send(key=key, value=number)

    database = await Database.connect(database_url)
    await migrate(database)
    relay = RedisBroker(cluster.url, default_partitions=PARTITIONS)
    async with running(app), relaying(database, relay):
        yield Work(cluster, database, database.pool)
    await relay.close()
    await database.close()


async def test_slots_move_while_an_application_works(
    cluster: RedisCluster, broker: RedisBroker, database_url: str
) -> None:
    before = await broker.incarnation()
    async with working(cluster, database_url) as work:
        await work.send()
        await work.is_done()
        for topic in ("numbers", "seen"):
            for partition in range(PARTITIONS):
                stream = keys.stream(TP(topic, partition))
                source = cluster.owner(stream)
                target = next(node for node in cluster.primaries if node is not source)
                await cluster.migrate(key_slot(stream.encode()), source, target, steps=work.goes_on)
        await work.goes_on()
        await work.was_done_once_and_in_order()
    assert await broker.incarnation() == before, "a slot that moves loses nothing"


async def test_what_a_replica_lacks_when_it_takes_over_is_published_again(
    cluster: RedisCluster, database_url: str
) -> None:
    assert cluster.replica is not None
    primary, replica = cluster.primaries[0], cluster.replica
    async with working(cluster, database_url) as work:
        await work.send()
        await work.is_done()
        await replica.call("CONFIG", "SET", "masterauth", "not this")
        await replica.call("CLIENT", "KILL", "TYPE", "master")
        await work.send()
        await work.is_done()
        before = await lengths(primary)
        await primary.kill()
        await work.send()
        await has_taken_over(replica)
        assert sum((await lengths(replica)).values()) < sum(before.values()), "nothing was lost"
        await work.send()
        await work.is_done()
        await work.was_done_once_and_in_order()


async def lengths(node: Node) -> dict[bytes, int]:
    streams = await node.call("KEYS", "{*:?}")
    return {stream: await node.call("XLEN", stream) for stream in streams}


async def test_a_node_that_fails_is_told_of_and_keeps_nobody_from_the_others(
    cluster: RedisCluster, broker: RedisBroker
) -> None:
    assert cluster.replica is not None
    await broker.create_topic(TopicSpec("numbers", PARTITIONS))
    before = await broker.incarnation()
    assert await broker.read(EVERYWHERE, limit=1, wait=0) == {}

    await cluster.primaries[0].kill()
    await has_taken_over(cluster.replica)
    with pytest.raises(BrokerUnavailable):
        await broker.read(EVERYWHERE, limit=1, wait=PATIENCE)

    async def is_another() -> bool:
        try:  # which nodes there are may be heard a little later
            return await broker.incarnation() != before
        except BrokerUnavailable:
            return False

    await eventually(is_another)
    assert await broker.read(EVERYWHERE, limit=1, wait=0) == {}

    node = cluster.primaries[1]  # which has no replica
    await node.kill()
    lost = {tp: BEGINNING for tp in TPS if cluster.owner(keys.stream(tp)) is node}
    others = EVERYWHERE.keys() - lost
    assert lost
    assert others
    for tp in others:
        await broker.append([Outgoing("numbers", b"1", partition=tp.partition)])
        found = await broker.read({**lost, tp: BEGINNING}, limit=1, wait=PATIENCE)
        assert found.keys() == {tp}
    with pytest.raises(BrokerUnavailable):
        await broker.read(lost, limit=1, wait=PATIENCE)
    with pytest.raises(BrokerUnavailable):
        await broker.append([Outgoing("numbers", b"1", partition=min(lost).partition)])
    with pytest.raises(BrokerUnavailable):
        await broker.incarnation()


async def test_who_waits_for_news_asks_for_them_once(cluster_url: str) -> None:
    broker = RedisBroker(cluster_url, default_partitions=PARTITIONS)
    await broker.create_topic(TopicSpec("quiet", 20))
    positions = dict.fromkeys([TP("quiet", partition) for partition in range(20)], BEGINNING)
    await broker.read(positions, limit=1, wait=0)
    before = await reads(cluster_url)
    for _ in range(5):
        assert await broker.read(positions, limit=1, wait=0.01) == {}
    assert await reads(cluster_url) == before
    await broker.append([Outgoing("quiet", b"1", partition=7)])
    assert (await broker.read(positions, limit=1, wait=PATIENCE)).keys() == {TP("quiet", 7)}
    assert await reads(cluster_url) == before + 1
    await broker.close()


async def test_commands_are_sent_to_the_node_that_has_their_key(cluster_url: str) -> None:
    servers = servers_by_url(as_administrator(cluster_url))
    client = servers.client
    increment = client.register_script("return redis.call('INCR', KEYS[1])")
    before = await redirections(cluster_url)
    for number in range(20):
        key = f"somewhere-{number}"
        await client.xadd(f"{{{key}}}:log", {"a": "1"})
        assert len(await client.xread({f"{{{key}}}:log": "0"}, block=1)) == 1
        await client.set(key, number)
        assert await increment(keys=[key]) == number + 1
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.get(key)
            await increment(keys=[key], client=pipeline)
            assert await pipeline.execute() == [b"%d" % (number + 1), number + 2]
    assert await redirections(cluster_url) == before
    await servers.close()


async def redirections(cluster_url: str) -> int:
    count = 0
    for url in nodes(cluster_url):
        async with Redis.from_url(as_administrator(url)) as node:
            count += (await node.info("errorstats")).get("errorstat_MOVED", {"count": 0})["count"]
    return count


async def reads(cluster_url: str) -> int:
    count = 0
    for url in nodes(cluster_url):
        async with Redis.from_url(as_administrator(url)) as node:
            stats = await node.info("commandstats")
        count += stats.get("cmdstat_xread", {}).get("calls", 0)
    return count


async def test_a_node_of_a_cluster_is_no_broker_by_itself(cluster_url: str) -> None:
    with pytest.raises(BrokerError, match=r"node of a cluster: write redis\+cluster://"):
        await open_and_close(nodes(cluster_url)[0])


async def test_a_single_server_is_no_cluster(valkey_url: str) -> None:
    with pytest.raises(BrokerError, match=r"no node of a cluster: write redis://"):
        await open_and_close(valkey_url.replace("redis://", "redis+cluster://"))


async def test_a_cluster_without_all_slots_is_an_error(tmp_path: Path) -> None:
    node = await start_node(tmp_path, BINARY or find_valkey())
    try:
        await node.call("CLUSTER", "ADDSLOTSRANGE", 0, 99)
        with pytest.raises(BrokerError, match=r"Of 16384 slots .* have 100: .*--cluster fix"):
            await open_and_close(f"redis+cluster://:{PASSWORD}@127.0.0.1:{node.port}")
    finally:
        await node.server.stop()


async def open_and_close(url: str) -> None:
    broker = RedisBroker(url, default_partitions=1)
    try:
        await broker.open()
    finally:
        await broker.close()
