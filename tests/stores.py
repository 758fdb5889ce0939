"""The stores of tables that tests run on, and what they can do."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class StoreCapability(enum.Enum):
    """What not every store can do. The value completes "a store that has no …"."""

    EXACTLY_ONCE = "commit that takes an event's changes and its position together"
    """Events change tables once, those that fail do not, and those that are delivered again do not
    do it again."""


@dataclass(frozen=True)
class StoreInTests:
    """One row of the table."""

    name: str
    capabilities: frozenset[StoreCapability]
    url: str
    """The fixture that gives the URL of an empty one."""


STORES = (
    StoreInTests("memory", frozenset(), "memory_store_url"),
    StoreInTests("postgresql", frozenset(StoreCapability), "database_url"),
)
