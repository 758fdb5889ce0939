"""Redis Streams as a broker: ``redis://`` and ``rediss://``."""

from redfaust.brokers.redis.broker import RedisBroker

__all__ = ["RedisBroker"]
