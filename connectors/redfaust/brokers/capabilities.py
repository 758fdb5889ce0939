"""What a broker can do beyond what all of them can."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from redfaust.errors import BrokerUnsupported

if TYPE_CHECKING:
    from redfaust.brokers.broker import Broker


class Capability(enum.Enum):
    """A part of the contract that a broker may leave out, by not declaring it.

    The value completes "a broker that has no …".
    """

    SHARED_DELIVERY = "shared delivery"
    """Consumers compete for the entries of all partitions: :meth:`Broker.share_group`."""

    APPEND_ONCE = "last sequences of producers beside its logs"
    """A repeat is recognised, and so is what a log has lost: :meth:`Broker.append_once`,
    :meth:`Broker.last_sequences`."""

    MORE_PARTITIONS = "topics that can get more partitions"
    """:meth:`Broker.close_topics`, :meth:`Broker.open_topics`."""

    RETENTION = "topics of which it removes what is too much or too old when it is told to"
    """:meth:`Broker.retentions`, :meth:`Broker.acquire_cleaner_lease`, :meth:`Broker.trim`,
    :meth:`Broker.compact`, :meth:`Broker.held_back`. One without sees to it by itself, or not."""


ALL = frozenset(Capability)


def require(broker: Broker, capability: Capability, wanted: str) -> None:
    """Raise :class:`~redfaust.errors.BrokerUnsupported` if a broker cannot do what is wanted."""
    if capability not in broker.capabilities:
        kind = type(broker).__name__
        raise BrokerUnsupported(f"{wanted}, and {kind} has no {capability.value}")
