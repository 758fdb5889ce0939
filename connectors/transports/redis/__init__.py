"""Redis Streams as a broker: ``redis://`` and ``rediss://``."""

from connectors.transports.redis.broker import RedisBroker
from connectors.transports.redis.transport import Transport

__all__ = ["RedisBroker", "Transport"]
