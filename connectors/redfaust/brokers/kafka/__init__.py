"""Brokers on the Kafka protocol, with their groups' state in Postgres: ``kafka://``."""
