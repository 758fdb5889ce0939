"""Redis Streams as a broker: ``redis://`` and ``rediss://``."""

from connectors.brokers.redis.broker import RedisBroker

__all__ = ["RedisBroker"]
