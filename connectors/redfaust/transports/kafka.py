"""Faust's door to Kafka where the state lives in Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from redfaust.brokers.broker import Broker
from redfaust.brokers.kafka.broker import KafkaBroker
from redfaust.brokers.url import BrokerUrl
from redfaust.errors import BrokerError
from redfaust.transports.transport import BrokerTransport


class Transport(BrokerTransport):
    """Set by the fixup, since ``kafka://`` without Postgres is Faust's own driver."""

    driver_version = "Kafka protocol"
    heeds: ClassVar[frozenset[str]] = frozenset({"ssl_context"})

    @cached_property
    def broker(self) -> Broker:
        conf = self.app.conf
        credentials: Mapping[str, Any] | None = None
        if conf.broker_credentials is not None or conf.ssl_context is not None:
            credentials = credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context)
        return KafkaBroker(
            str(BrokerUrl.of_parts([str(part) for part in self.url])),
            default_partitions=conf.topic_partitions,
            store=str(conf.store),
            credentials=credentials,
        )

    @classmethod
    def new_broker(cls, url: str, default_partitions: int) -> Broker:  # noqa: ARG003
        raise BrokerError("kafka:// needs a database beside it")
