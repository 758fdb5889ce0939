"""The Redis servers behind a URL: one, a primary that may change, or the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from faust.types import TP
from redis.asyncio import ConnectionPool, Redis

from redfaust.brokers.broker import Record
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.address import Address, Kind, without_password
from redfaust.brokers.redis.client import COMMANDS, READS, incarnation_of, info
from redfaust.brokers.redis.cluster import Cluster
from redfaust.brokers.redis.cluster_client import ClusterClient
from redfaust.brokers.redis.cluster_reader import ClusterReader
from redfaust.brokers.redis.connections import packed
from redfaust.brokers.redis.reader import StreamReader
from redfaust.brokers.redis.sentinel import Primary
from redfaust.brokers.redis.sequences import Sequences
from redfaust.errors import BrokerError


class Reader(Protocol):
    """Reads streams; see :class:`~redfaust.brokers.broker.Broker`."""

    async def read(
        self, positions: Mapping[TP, int], *, limit: int, wait: float
    ) -> Mapping[TP, Sequence[Record]]:
        """Read, and wait for news if there are none."""

    def wake(self) -> None:
        """Make a waiting read return."""

    async def close(self) -> None:
        """Disconnect."""


class Servers(Protocol):
    """What differs between them. All else works with their ``client``."""

    @property
    def client(self) -> Redis:
        """Sends each command to the server that has its keys, which all lie in one slot."""

    @property
    def sequences(self) -> Sequences:
        """What signs and verifies the sources of entries."""

    @property
    def reader(self) -> Reader:
        """Reads on connections of its own."""

    def new_reader(self) -> Reader:
        """Another one, to be closed by whoever asked for it."""

    async def open(self) -> None:
        """Connect; harmless if that is done. Raises BrokerError if the URL means something else."""

    async def close(self) -> None:
        """Disconnect."""

    async def incarnation(self) -> str:
        """See :meth:`~redfaust.brokers.broker.Broker.incarnation`."""

    async def nodes(self, tps: Collection[TP]) -> Mapping[Redis, Collection[TP]]:
        """The servers that have these partitions, each with those that it has."""

    async def is_of(self, incarnation: str, node: str) -> bool:
        """Whether a server whose own incarnation is ``node`` belongs to this incarnation."""

    async def all(self) -> Mapping[str, Redis]:
        """Every server that takes entries, by a name for people."""


def servers_by_url(url: str) -> Servers:
    """The servers that a URL means. Raises BrokerError if it means none."""
    address = Address.parse(url)
    match address.kind:
        case Kind.ONE:
            return OneServer(url, address)
        case Kind.SENTINEL:
            return SentinelServers(url, address)
        case Kind.CLUSTER:
            return ClusterServers(url, address)


class OneServer:
    """The same server for good."""

    def __init__(self, url: str, address: Address) -> None:
        self._shown = without_password(url)
        self.client = Redis.from_pool(_pool(address, COMMANDS))
        self.sequences = Sequences(self.client)
        self._address = address
        self.reader = self.new_reader()

    def new_reader(self) -> StreamReader:
        return StreamReader(_pool(self._address, READS), self.sequences)

    async def open(self) -> None:
        server = await info(self.client, "server")
        match server.get("redis_mode", server.get("server_mode")):
            case "sentinel":
                raise BrokerError(
                    f"{self._shown} is a Sentinel: write redis+sentinel://host:26379/mymaster"
                )
            case "cluster":
                raise BrokerError(f"{self._shown} is a node of a cluster: write redis+cluster://")

    async def close(self) -> None:
        await self.reader.close()
        await self.client.aclose()

    async def incarnation(self) -> str:
        return await incarnation_of(self.client)

    async def nodes(self, tps: Collection[TP]) -> Mapping[Redis, Collection[TP]]:
        return {self.client: tps}

    async def is_of(self, incarnation: str, node: str) -> bool:
        return incarnation == node

    async def all(self) -> Mapping[str, Redis]:
        return {f"Redis at {self._shown}": self.client}


class SentinelServers:
    """A primary that is replaced when it fails."""

    def __init__(self, url: str, address: Address) -> None:
        self._shown = without_password(url)
        self._primary = Primary(self._shown, address)
        self.client = Redis.from_pool(self._primary.pool(COMMANDS))
        self.sequences = Sequences(self.client)
        self.reader = self.new_reader()

    def new_reader(self) -> StreamReader:
        return StreamReader(self._primary.pool(READS), self.sequences)

    async def open(self) -> None:
        await self._primary.prove(self.client)
        self._primary.watch()

    async def close(self) -> None:
        await self.reader.close()
        await self.client.aclose()
        await self._primary.close()

    async def incarnation(self) -> str:
        return await incarnation_of(self.client)

    async def nodes(self, tps: Collection[TP]) -> Mapping[Redis, Collection[TP]]:
        return {self.client: tps}

    async def is_of(self, incarnation: str, node: str) -> bool:
        return incarnation == node

    async def all(self) -> Mapping[str, Redis]:
        return {f"the primary of {self._shown}": self.client}


class ClusterServers:
    """Nodes that have the slots among them."""

    def __init__(self, url: str, address: Address) -> None:
        self._cluster = Cluster(without_password(url), address)
        self.client = ClusterClient(self._cluster, address.hosts[0])
        self.sequences = Sequences(self.client)
        self.reader = self.new_reader()

    def new_reader(self) -> ClusterReader:
        return ClusterReader(self._cluster, self.sequences)

    async def open(self) -> None:
        await self._cluster.prove()

    async def close(self) -> None:
        await self.reader.close()
        await self.client.aclose()

    async def incarnation(self) -> str:
        return await self._cluster.incarnation()

    async def nodes(self, tps: Collection[TP]) -> Mapping[Redis, Collection[TP]]:
        await self._cluster.map()
        nodes: dict[Redis, list[TP]] = {}
        for tp in tps:
            host = self._cluster.owner(keys.stream(tp))
            nodes.setdefault(self._cluster.node(host), []).append(tp)
        return nodes

    async def is_of(self, incarnation: str, node: str) -> bool:  # noqa: ARG002 - all nodes count
        return incarnation == await self.incarnation()

    async def all(self) -> Mapping[str, Redis]:
        await self._cluster.map()
        nodes = sorted(self._cluster.primaries)
        return {f"the node {host}:{port}": self._cluster.node((host, port)) for host, port in nodes}


def _pool(address: Address, options: Mapping[str, Any]) -> ConnectionPool:
    [(host, port)] = address.hosts
    kind = packed(address.encrypted)
    return ConnectionPool(
        connection_class=kind, **{"host": host, "port": port, **options, **address.options}
    )
