"""What an order is made of, and the life it leads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel, ConfigDict

from models.errors import IllegalTransition
from models.fields import Id, Quantity, UnitPrice


class Item(BaseModel):
    """A quantity of one article at the price of the moment."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sku: Id
    quantity: Quantity
    unit_price: UnitPrice


def total(items: Iterable[Item]) -> int:
    """What the items cost together, in minor units."""
    return sum(item.quantity * item.unit_price for item in items)


class OrderStatus(StrEnum):
    """Where an order stands.

    ::

        placed ───▶ confirmed ───▶ shipped
           │            │
           └────────────┴───▶ cancelled
    """

    PLACED = "placed"
    CONFIRMED = "confirmed"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"

    def require(self, following: OrderStatus) -> None:
        """Raise :class:`IllegalTransition` unless ``following`` may follow this status."""
        if following not in TRANSITIONS[self]:
            allowed = ", ".join(sorted(TRANSITIONS[self])) or "nothing"
            raise IllegalTransition(
                f"an order that is {self} cannot become {following}; what may follow is: {allowed}"
            )


TRANSITIONS: Final[Mapping[OrderStatus, frozenset[OrderStatus]]] = MappingProxyType(
    {
        OrderStatus.PLACED: frozenset({OrderStatus.CONFIRMED, OrderStatus.CANCELLED}),
        OrderStatus.CONFIRMED: frozenset({OrderStatus.SHIPPED, OrderStatus.CANCELLED}),
        OrderStatus.SHIPPED: frozenset(),
        OrderStatus.CANCELLED: frozenset(),
    }
)
