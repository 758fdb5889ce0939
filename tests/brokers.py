"""The brokers that tests run on: what they can do, who starts them, and how they are emptied.

A broker that lacks a capability is not asked for it: tests that need one say so by the marker
``needs``, and are skipped there with the reason.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from typing import cast

import pytest
import redis

from redfaust.brokers.capabilities import Capability
from redfaust.brokers.kafka.broker import KafkaBroker
from redfaust.brokers.memory.broker import MemoryBroker
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.brokers.url import BrokerUrl
from redfaust.transports.by_url import broker_by_url
from tests.kafka_server import delete_all_topics
from tests.redis_cluster import nodes
from tests.rights import as_administrator

Empty = Callable[[str], None]
"""Removes all that the broker of a URL holds."""


@dataclass(frozen=True)
class BrokerInTests:
    """One row of the table."""

    name: str
    capabilities: frozenset[Capability]
    url: str
    """The fixture that starts it, and gives its URL."""
    empty: Empty


def skip_unless_able(
    node: pytest.Item, name: str, able: Collection[enum.Enum], kind: type[enum.Enum]
) -> None:
    """Skip a test that needs what a broker, or a store, is not able to do."""
    for marker in node.iter_markers("needs"):
        for capability in marker.args:
            if isinstance(capability, kind) and capability not in able:
                pytest.skip(f"{name}: has no {capability.value}")


def nothing(url: str) -> None:
    """For brokers that are new in each test."""


def flush(url: str) -> None:
    """Empty one Redis, the one that a Sentinel names, or all nodes of a cluster."""
    for server in nodes(url) if "+sentinel" not in url else [_primary(url)]:
        with redis.Redis.from_url(server) as client:
            client.flushall()
            client.script_flush()


def flush_ours(url: str) -> None:
    """The same of a Redis that fixtures have started, whoever's URL it is."""
    flush(as_administrator(url))


def _primary(url: str) -> str:
    parts = BrokerUrl.parse(url)
    with redis.Redis.from_url(f"redis://{parts.hosts[0]}", decode_responses=True) as sentinel:
        host, port = sentinel.sentinel_get_master_addr_by_name(parts.path.strip("/"))
    return f"redis://:{parts.password}@{host}:{port}"


BROKERS = (
    BrokerInTests("memory", MemoryBroker.capabilities, "memory_url", nothing),
    BrokerInTests("valkey", RedisBroker.capabilities, "valkey_url", flush_ours),
    BrokerInTests("redis-7.0", RedisBroker.capabilities, "redis_url", flush_ours),
    BrokerInTests("redis-8.2", RedisBroker.capabilities, "redis_8_url", flush_ours),
    BrokerInTests("sentinel", RedisBroker.capabilities, "sentinel_url", flush_ours),
    BrokerInTests("cluster", RedisBroker.capabilities, "cluster_url", flush_ours),
    BrokerInTests("kafka", KafkaBroker.capabilities, "kafka_url", delete_all_topics),
)

GUEST, GUEST_EMPTIED_BY = "CONFORMANCE_BROKER", "CONFORMANCE_EMPTY"
"""Variables: the URL of a broker that is to be tested in place of all others, and the function that
empties it, as ``package.module:function``."""


def brokers() -> tuple[BrokerInTests, ...]:
    """Those that a run is about."""
    url = os.environ.get(GUEST)
    return BROKERS if url is None else (_guest(url),)


def _guest(url: str) -> BrokerInTests:
    """A broker that somebody else has started, and perhaps written."""
    emptied_by = os.environ.get(GUEST_EMPTIED_BY)
    if emptied_by is None:
        raise pytest.UsageError(
            f"{GUEST} is emptied before each test: name the function that does it in "
            f"{GUEST_EMPTIED_BY}, as package.module:function; tests.brokers:flush is for Redis"
        )
    module, _, function = emptied_by.partition(":")
    empty = cast("Empty", getattr(import_module(module), function))
    capabilities = broker_by_url(url, default_partitions=1).capabilities
    return BrokerInTests(BrokerUrl.parse(url).scheme, capabilities, "guest_url", empty)
