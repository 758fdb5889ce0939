"""Faust's door to Redis Streams."""

from __future__ import annotations

from connectors.brokers.broker import Broker
from connectors.brokers.redis.broker import RedisBroker
from connectors.transports.transport import BrokerTransport


class Transport(BrokerTransport):
    """Registered for every scheme of :data:`~connectors.brokers.redis.address.KINDS`."""

    driver_version = "Redis Streams"

    @classmethod
    def new_broker(cls, url: str, default_partitions: int) -> Broker:
        return RedisBroker(url, default_partitions=default_partitions)
