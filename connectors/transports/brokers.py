"""Which broker a URL means."""

from __future__ import annotations

from yarl import URL

from connectors.errors import BrokerError
from connectors.transports.broker import Broker
from connectors.transports.memory.broker import MemoryBroker
from connectors.transports.redis.broker import RedisBroker


def broker_by_url(url: str, *, default_partitions: int) -> Broker:
    """Build the broker that a URL means; it is not connected yet.

    ``default_partitions`` is given to topics that are written to before they are declared.
    """
    scheme = URL(url).scheme
    if scheme in {"redis", "rediss"}:
        return RedisBroker(url, default_partitions=default_partitions)
    if scheme == "memory":
        return MemoryBroker(url, default_partitions=default_partitions)
    raise BrokerError(f"No broker for {scheme}:// URLs: use redis://, rediss:// or memory://")
