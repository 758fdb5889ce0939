"""From the database onto the logs: appends stored batches, and notes that they are published."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeAlias

from faust.types import TP

from connectors.errors import BrokerError
from connectors.postgres.database import Connection
from connectors.transports.broker import LaneBatch, Outgoing, Place

SetAside: TypeAlias = Callable[[Connection, Outgoing, BrokerError], Awaitable[None]]
"""Keeps an entry that the broker refused for good, in the transaction that takes it out of its
batch: it is kept once."""


class Logs(Protocol):
    """What publishing needs of a :class:`~connectors.transports.broker.Broker`."""

    async def append_once(self, batches: Sequence[LaneBatch]) -> Mapping[str, Mapping[TP, Place]]:
        """Append what the lanes have not put there yet."""

    async def marks(self, lanes: Collection[str]) -> Mapping[str, Mapping[TP, int]]:
        """The last numbers that lanes have put there."""
