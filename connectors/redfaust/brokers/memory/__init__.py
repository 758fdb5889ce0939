"""Memory as a broker: ``memory://``, for tests and for trying things out."""

from redfaust.brokers.memory.broker import MemoryBroker

__all__ = ["MemoryBroker"]
