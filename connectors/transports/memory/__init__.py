"""Memory as a broker: ``memory://``, for tests and for trying things out."""

from connectors.transports.memory.broker import MemoryBroker
from connectors.transports.memory.transport import Transport

__all__ = ["MemoryBroker", "Transport"]
