"""Which broker a URL means."""

from __future__ import annotations

from connectors.errors import BrokerError
from connectors.transports.broker import Broker
from connectors.transports.memory.broker import MemoryBroker
from connectors.transports.redis.address import KINDS, Address
from connectors.transports.redis.broker import RedisBroker
from connectors.transports.url import BrokerUrl

MEMORY = "memory"
SCHEMES = frozenset({*KINDS, MEMORY})
"""With which a broker's URL may begin."""


def check_url(url: str) -> None:
    """Raise BrokerError if this is no broker's URL. What it says holds no part of the URL."""
    if BrokerUrl.parse(url).scheme != MEMORY:
        Address.parse(url)


def broker_by_url(url: str, *, default_partitions: int) -> Broker:
    """Build the broker that a URL means; it is not connected yet.

    ``default_partitions`` is given to topics that are written to before they are declared.
    """
    scheme = BrokerUrl.parse(url).scheme
    if scheme in KINDS:
        return RedisBroker(url, default_partitions=default_partitions)
    if scheme == MEMORY:
        return MemoryBroker(url, default_partitions=default_partitions)
    begins = ", ".join(f"{known}://" for known in sorted(SCHEMES))
    raise BrokerError(f"No broker for {scheme}:// URLs: use one of {begins}")
