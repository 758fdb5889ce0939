"""Brokers on the Kafka protocol, with their groups' state in Postgres: ``kafka://``."""

from connectors.brokers.kafka.broker import KafkaBroker

__all__ = ["KafkaBroker"]
