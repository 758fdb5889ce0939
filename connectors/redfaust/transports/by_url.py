"""Which broker a URL means."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from redfaust.brokers.broker import Broker
from redfaust.brokers.kafka.address import KAFKA
from redfaust.brokers.kafka.address import Address as KafkaAddress
from redfaust.brokers.memory.broker import MemoryBroker
from redfaust.brokers.redis.address import KINDS, Address
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.brokers.url import BrokerUrl
from redfaust.errors import BrokerError

if TYPE_CHECKING:
    from redfaust.transports.transport import BrokerTransport

MEMORY = "memory"
SCHEMES = frozenset({*KINDS, MEMORY})
"""With which the URL of a broker of this package may begin, whatever the store. So may that of a
Kafka, beside a database."""


def is_broker(scheme: str) -> bool:
    """Whether URLs that begin so mean a broker, of this package or of another."""
    return scheme in SCHEMES or _guest(scheme) is not None


def check_url(url: str) -> None:
    """Raise BrokerError if this is no broker's URL. What it says holds no part of the URL."""
    scheme = BrokerUrl.parse(url).scheme
    if scheme == KAFKA:
        KafkaAddress.parse(url)
    elif scheme in KINDS:
        Address.parse(url)
    elif not is_broker(scheme):
        begins = ", ".join(f"{known}://" for known in (*KINDS, KAFKA))
        raise BrokerError(f"the broker's URL has to begin with one of {begins}")


def broker_by_url(url: str, *, default_partitions: int, store: str | None = None) -> Broker:
    """Build the broker that a URL means; it is not connected yet.

    ``default_partitions`` is given to topics that are written to before they are declared.
    ``store`` is the URL of the database beside it, which ``kafka://`` needs.
    """
    scheme = BrokerUrl.parse(url).scheme
    if scheme == KAFKA:
        if store is None:
            raise BrokerError("kafka:// needs a database beside it: name one by postgresql://")
        # Imported here, since nothing else needs Kafka's clients.
        from redfaust.brokers.kafka.broker import KafkaBroker  # noqa: PLC0415

        return KafkaBroker(url, default_partitions=default_partitions, store=store)
    if scheme in KINDS:
        return RedisBroker(url, default_partitions=default_partitions)
    if scheme == MEMORY:
        return MemoryBroker(url, default_partitions=default_partitions)
    if (guest := _guest(scheme)) is not None:
        return guest.new_broker(url, default_partitions)
    begins = ", ".join(f"{known}://" for known in sorted({*SCHEMES, KAFKA}))
    raise BrokerError(f"No broker for {scheme}:// URLs: use one of {begins}")


def _guest(scheme: str) -> type[BrokerTransport] | None:
    """The transport that another package has for these URLs, where it is built on ours."""
    if scheme in SCHEMES:
        return None
    # Imported here, since it brings all of Faust's machinery, and a command needs none of it.
    from redfaust.transports.transport import BrokerTransport  # noqa: PLC0415

    for entry_point in entry_points(group="faust.transports", name=scheme):
        transport = entry_point.load()
        if isinstance(transport, type) and issubclass(transport, BrokerTransport):
            return transport
    return None
