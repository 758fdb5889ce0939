"""Brokers on the Kafka protocol, with their groups' state in Postgres: ``kafka://``."""

from connectors.transports.kafka.broker import KafkaBroker
from connectors.transports.kafka.transport import Transport

__all__ = ["KafkaBroker", "Transport"]
