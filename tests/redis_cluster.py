"""A Redis Cluster of this machine: three primaries, and a replica of the first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import RedisError

from app.embedded.binaries import find_valkey
from app.embedded.process import Server, free_port, start_server, until_ready, working_directory
from app.embedded.secret import write_private
from app.embedded.valkey import STOP, users_for
from redfaust.brokers.url import BrokerUrl
from tests.integration.faust_apps import eventually
from tests.rights import PASSWORD, as_worker

NODE_TIMEOUT_MS = 600
"""After which a node counts as failing."""

_CONFIGURATION = """\
bind 127.0.0.1
port {port}
cluster-port {bus}
cluster-enabled yes
cluster-node-timeout {timeout}
cluster-replica-validity-factor 0
cluster-require-full-coverage no
requirepass {password}
masterauth {password}
appendonly {appendonly}
save ""
repl-diskless-sync-delay 0
"""


@dataclass(frozen=True)
class Node:
    """One server of it."""

    port: int
    bus: int
    server: Server
    directory: Path

    async def call(self, *arguments: Any) -> Any:
        """Ask it something."""
        async with Redis(port=self.port, password=PASSWORD, protocol=2) as client:
            return await client.execute_command(*arguments)  # type: ignore[no-untyped-call]

    async def name(self) -> str:
        """The cluster's own for it."""
        name: bytes = await self.call("CLUSTER", "MYID")
        return name.decode()

    async def kill(self) -> None:
        """At once."""
        self.server.process.kill()
        await self.server.process.wait()


@dataclass(frozen=True)
class RedisCluster:
    """All of them."""

    primaries: list[Node]
    replica: Node | None

    @property
    def nodes(self) -> list[Node]:
        """All of them."""
        return self.primaries + ([self.replica] if self.replica else [])

    @property
    def url(self) -> str:
        """Of the broker, for a worker."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return as_worker(f"redis+cluster://{hosts}")

    def owner(self, key: str) -> Node:
        """The primary that has a key as long as no slot has moved."""
        return self.primaries[key_slot(key.encode()) * len(self.primaries) // _SLOTS]

    async def migrate(
        self,
        slot: int,
        source: Node,
        target: Node,
        *,
        steps: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Move a slot, as ``redis-cli --cluster reshard`` does, with a look at each step.

        ``steps`` is awaited when the slot is on its way, and when its keys are there.
        """
        await target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", await source.name())
        await source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", await target.name())
        if steps:
            await steps()
        while keys := await source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            where = ("127.0.0.1", target.port, "", 0, 5000, "AUTH", PASSWORD)
            await source.call("MIGRATE", *where, "KEYS", *keys)
        if steps:
            await steps()
        others = [node for node in self.primaries if node not in {target, source}]
        for node in (target, source, *others):
            await node.call("CLUSTER", "SETSLOT", slot, "NODE", await target.name())


_SLOTS = REDIS_CLUSTER_HASH_SLOTS


def nodes(url: str) -> list[str]:
    """The URLs of the servers that a broker's URL names."""
    broker = BrokerUrl.parse(url)
    return [str(replace(broker, scheme="redis", hosts=(host,))) for host in broker.hosts]


async def start_node(
    directory: Path, binary: Path, *, ports: tuple[int, int] | None = None, durable: bool = False
) -> Node:
    """A server that belongs to the cluster that its directory knows, or to none yet."""
    directory = working_directory(directory)
    port, bus = ports or (free_port(), free_port())
    configuration = directory / "node.conf"
    write_private(
        configuration,
        _CONFIGURATION.format(
            port=port,
            bus=bus,
            timeout=NODE_TIMEOUT_MS,
            appendonly="yes" if durable else "no",
            password=PASSWORD,
        )
        + users_for(PASSWORD),
    )
    server = await start_server(
        "Redis",
        [str(binary), str(configuration)],
        cwd=directory,
        log=directory / "server.log",
        plan=STOP,
    )
    node = Node(port, bus, server, directory)

    async def prove() -> None:
        await node.call("PING")

    await until_ready(server, "Ready to accept connections", prove)
    return node


@asynccontextmanager
async def running_cluster(
    directory: Path,
    binary: Path | None = None,
    *,
    with_replica: bool = True,
    durable: bool = False,
) -> AsyncIterator[RedisCluster]:
    """Formed and agreed on who has which slot; ``durable``: with what it needs to be killed."""
    binary = binary or find_valkey()
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(4 if with_replica else 3):
            nodes.append(await start_node(directory / f"node-{number}", binary, durable=durable))
            stack.push_async_callback(nodes[-1].server.stop)
        primaries, replicas = nodes[:3], nodes[3:]
        for number, node in enumerate(primaries):
            first = -(-_SLOTS * number // 3)
            last = -(-_SLOTS * (number + 1) // 3) - 1
            await node.call("CLUSTER", "ADDSLOTSRANGE", first, last)
            await node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            await node.call("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
        cluster = RedisCluster(primaries, replicas[0] if replicas else None)
        await _all(cluster, lambda info: info.get("cluster_state") == "ok", known=len(nodes))
        for replica in replicas:
            await replica.call("CLUSTER", "REPLICATE", await nodes[0].name())
            await eventually(lambda: _follows(replica))  # noqa: B023 - awaited here
        yield cluster


async def _all(cluster: RedisCluster, holds: Any, *, known: int) -> None:
    async def check() -> bool:
        infos = [_parsed(await node.call("CLUSTER", "INFO")) for node in cluster.nodes]
        return all(holds(info) and info["cluster_known_nodes"] == str(known) for info in infos)

    await eventually(check)


def _parsed(info: Any) -> dict[str, str]:
    if isinstance(info, dict):
        return info
    lines = info.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


async def _follows(replica: Node) -> bool:
    try:
        info = await replica.call("INFO", "replication")
    except RedisError:
        return False
    return bool(info.get("master_link_status") == "up")


async def has_taken_over(node: Node) -> None:
    """Wait until a replica is a primary."""

    async def check() -> bool:
        info = await node.call("INFO", "replication")
        return bool(info["role"] == "master")

    async with asyncio.timeout(20):
        while not await check():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
