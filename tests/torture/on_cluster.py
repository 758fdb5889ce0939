"""Faults of a Redis Cluster, whose first primary has a replica. As in ``on_redis.py``, the writer
appends nothing while a node is away that would be missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from redis.asyncio.cluster import ClusterNode
from redis.asyncio.cluster import RedisCluster as Client
from redis.exceptions import RedisError

from app.embedded.binaries import find_valkey
from tests.redis_cluster import (
    Node,
    RedisCluster,
    has_taken_over,
    running_cluster,
    start_node,
)
from tests.rights import PASSWORD
from tests.torture.faults import Fault
from tests.torture.strikes import Impossible, Strikes

PATIENCE = 30.0
"""Seconds within which primary and replica have to agree again."""
LOOK_EVERY = 0.05


class Cluster:
    """Its nodes, each on a port that it keeps."""

    def __init__(self, cluster: RedisCluster, stack: AsyncExitStack) -> None:
        assert cluster.replica is not None
        self.pair = [cluster.primaries[0], cluster.replica]
        self.others = cluster.primaries[1:]
        self.url = cluster.url
        self._stack = stack

    def client(self, **options: Any) -> Any:
        """A client that finds the primary of each key by itself."""
        nodes = [ClusterNode("127.0.0.1", node.port) for node in (*self.pair, *self.others)]
        return Client(startup_nodes=nodes, password=PASSWORD, **options)

    async def in_step(self) -> tuple[Node, Node]:
        """The primary that has a replica, and that, when it has everything."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for primary, replica in (self.pair, self.pair[::-1]):
                    if await self._has_all(primary):
                        return primary, replica
                await asyncio.sleep(LOOK_EVERY)

    async def _has_all(self, primary: Node) -> bool:
        try:
            info = await primary.call("INFO", "replication")
            reached = info["master_repl_offset"]
            if info["role"] != "master":
                return False
            async with asyncio.timeout(PATIENCE):
                while (await self._replicated(primary)) < reached:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(LOOK_EVERY)
        except (RedisError, OSError):
            return False
        return True

    async def _replicated(self, primary: Node) -> int:
        """How much of what it has the primary knows its replica to have, or -1."""
        info = await primary.call("INFO", "replication")
        replica = info.get("slave0", {})
        return replica["offset"] if replica.get("state") == "online" else -1

    async def start_again(self, node: Node) -> Node:
        """Run a node that was killed on the data that it has."""
        again = await start_node(
            node.directory, find_valkey(), ports=(node.port, node.bus), durable=True
        )
        self._stack.push_async_callback(again.server.stop)
        for nodes in (self.pair, self.others):
            nodes[:] = [again if each is node else each for each in nodes]
        return again

    async def until_follows(self, node: Node) -> None:
        """Wait until a node that was succeeded knows it. Before that it takes what is appended, and
        drops it when it follows its successor."""
        async with asyncio.timeout(PATIENCE):
            while not await self._follows(node):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(LOOK_EVERY)

    async def _follows(self, node: Node) -> bool:
        try:
            return bool((await node.call("INFO", "replication"))["role"] == "slave")
        except (RedisError, OSError):
            return False


@asynccontextmanager
async def running_nodes(directory: Path) -> AsyncIterator[Cluster]:
    """All of them during the block."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(running_cluster(directory, durable=True))
        yield Cluster(cluster, stack)


class OnCluster:
    """Hits its nodes; ``appending`` is held by whoever appends."""

    def __init__(self, seed: int, cluster: Cluster, appending: asyncio.Lock) -> None:
        self._choose = Random(f"on a cluster {seed}")
        self._cluster = cluster
        self._appending = appending

    @property
    def strikes(self) -> Strikes:
        return {
            Fault.REDIS_KILLED: self._kill,
            Fault.REDIS_DIED: self._let_die,
            Fault.REDIS_CUT_OFF: self._cannot,
            Fault.REDIS_CLOCK: self._cannot,
            Fault.CLIENTS_KILLED: self._kill_clients,
        }

    async def _kill(self) -> None:
        """One that nobody succeeds."""
        node = self._choose.choice(self._cluster.others)
        await node.kill()
        await self._cluster.start_again(node)

    async def _let_die(self) -> None:
        async with self._appending:
            primary, replica = await self._cluster.in_step()
            await primary.kill()
            try:
                await has_taken_over(replica)
            finally:
                again = await self._cluster.start_again(primary)
            await self._cluster.until_follows(again)

    async def _kill_clients(self) -> None:
        node = self._choose.choice([*self._cluster.pair, *self._cluster.others])
        await node.call("CLIENT", "KILL", "TYPE", "normal")

    async def _cannot(self) -> None:
        raise Impossible("done to a pair behind a Sentinel alone")
