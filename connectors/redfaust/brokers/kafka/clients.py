"""The clients of one Kafka cluster, all with the same bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from redfaust.brokers.broker import TopicSpec
from redfaust.brokers.kafka.address import Address
from redfaust.brokers.kafka.errors import our_errors

REQUEST_TIMEOUT = 8.0
"""Seconds that Kafka is given to answer. It is less than what Postgres lets a transaction rest: one
of them is kept open while entries are appended."""

FETCH_WAIT = 0.25
"""Seconds that a fetch waits at a node for news. What is asked for meanwhile waits behind it."""

FETCH_BYTES = 16 << 20
"""Bytes that a node sends in one go, and that the client keeps ready for its reader. One entry is
sent however large it is."""

START_FOR = 10.0
"""Seconds in which a client has to be connected."""

REPLICAS = 3
"""Brokers that keep a new topic, where there are as many."""


def common(address: Address) -> dict[str, Any]:
    """The options that all clients have."""
    return {
        **address.options,
        "client_id": "redfaust",
        "request_timeout_ms": round(REQUEST_TIMEOUT * 1000),
    }


def new_consumer(address: Address, **options: Any) -> Any:
    """A consumer that reads where it is told to, without a group."""
    return AIOKafkaConsumer(
        **{
            **common(address),
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "fetch_max_wait_ms": round(FETCH_WAIT * 1000),
            "fetch_max_bytes": FETCH_BYTES,
            **options,
        }
    )


async def started(client: Any) -> Any:
    """A client, connected; raises what aiokafka raises, and leaves nothing open then."""
    try:
        async with asyncio.timeout(START_FOR):
            await client.start()
            # Its tasks have to have begun: a client that is stopped before cancels itself.
            await asyncio.sleep(0)
    except BaseException:
        await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
        raise
    return client


class Admin:
    """What is asked of the cluster as a whole."""

    def __init__(self, client: Any, shown: str) -> None:
        self._client = client
        self._shown = shown

    @classmethod
    async def connect(cls, address: Address) -> Admin:
        """Connect. Raises what aiokafka raises."""
        return cls(await started(AIOKafkaAdminClient(**common(address))), address.shown)

    async def cluster_id(self) -> str:
        """Which cluster this is."""
        return str((await self._cluster())["cluster_id"] or "kafka")

    async def _cluster(self) -> Mapping[str, Any]:
        with our_errors(self._shown):
            described: Mapping[str, Any] = await self._client.describe_cluster()
            return described

    async def topics(self) -> dict[str, int]:
        """The topics that are not Kafka's own, with their numbers of partitions, by name."""
        with our_errors(self._shown):
            described = await self._client.describe_topics()
        return {
            topic["topic"]: len(topic["partitions"])
            for topic in sorted(described, key=lambda topic: str(topic["topic"]))
            if not topic["is_internal"]
            and not topic["topic"].startswith("__")
            and topic["partitions"]
        }

    async def create_topic(self, spec: TopicSpec, configuration: Mapping[str, str]) -> None:
        """Create a topic, unless somebody has."""
        replicas = min(REPLICAS, len((await self._cluster())["brokers"]))
        topic = NewTopic(spec.name, spec.partitions, replicas, topic_configs=dict(configuration))
        with our_errors(self._shown):
            created = await self._client.create_topics([topic])
            for _, code, message in created.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise for_code(code)(message)

    async def delete_topics(self, topics: Sequence[str]) -> None:
        """Delete topics that exist."""
        with our_errors(self._shown):
            await self._client.delete_topics(list(topics))

    async def add_partitions(self, partitions: Mapping[str, int]) -> None:
        """Give topics so many partitions, which is more than they have."""
        more = {topic: NewPartitions(count) for topic, count in partitions.items()}
        with our_errors(self._shown):
            await self._client.create_partitions(more)

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()
