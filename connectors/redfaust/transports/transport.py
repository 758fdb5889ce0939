"""Faust's transport, for any broker."""

from __future__ import annotations

import abc
from functools import cached_property
from typing import ClassVar

from faust.auth import SASLCredentials
from faust.transport.base import Transport as FaustTransport

from redfaust.brokers.broker import Broker
from redfaust.brokers.url import BrokerUrl
from redfaust.processing.producer import Producer
from redfaust.transports.conductor import Conductor
from redfaust.transports.consumer import Consumer
from redfaust.transports.fetcher import Fetcher
from redfaust.transports.transactions import TransactionManager


class BrokerTransport(FaustTransport):
    """Wires Faust's consumer, producer and conductor to one :class:`Broker`."""

    Consumer = Consumer
    Producer = Producer
    Conductor = Conductor
    Fetcher = Fetcher
    TransactionManager = TransactionManager

    heeds: ClassVar[frozenset[str]] = frozenset()
    """Settings that mean something to this broker, other than to most."""

    @cached_property
    def broker(self) -> Broker:
        """The broker that this transport's URL means. Opened by whoever uses it first."""
        url = BrokerUrl.of_parts([str(part) for part in self.url])
        credentials = self.app.conf.broker_credentials
        if isinstance(credentials, SASLCredentials):
            url = url.with_login(credentials.username, credentials.password)
        return self.new_broker(str(url), self.app.conf.topic_partitions)

    @classmethod
    @abc.abstractmethod
    def new_broker(cls, url: str, default_partitions: int) -> Broker:
        """Build the broker for a URL."""
