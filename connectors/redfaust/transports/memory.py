"""Faust's door to memory."""

from __future__ import annotations

from redfaust.brokers.broker import Broker
from redfaust.brokers.memory.broker import MemoryBroker
from redfaust.transports.transport import BrokerTransport


class Transport(BrokerTransport):
    """Registered for ``memory://``."""

    driver_version = "memory"

    @classmethod
    def new_broker(cls, url: str, default_partitions: int) -> Broker:
        return MemoryBroker(url, default_partitions=default_partitions)
