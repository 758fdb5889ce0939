"""Faust's door to Redis Streams."""

from __future__ import annotations

from redfaust.brokers.broker import Broker
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.transports.transport import BrokerTransport


class Transport(BrokerTransport):
    """Registered for every scheme of :data:`~redfaust.brokers.redis.address.KINDS`."""

    driver_version = "Redis Streams"

    @classmethod
    def new_broker(cls, url: str, default_partitions: int) -> Broker:
        return RedisBroker(url, default_partitions=default_partitions)
