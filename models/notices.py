"""What the texts of each kind of notification are made of, with bounds: whoever wrote the event."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pydantic import BaseModel, ConfigDict

from models.events import NotificationKind, SomeItems
from models.fields import Amount, Currency, Id, Line


class Facts(BaseModel):
    """Base of all of them. What no template shows is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Welcome(Facts):
    """A user has signed up."""

    name: Line


class Confirmed(Facts):
    """An order was taken."""

    order_id: Id
    items: SomeItems
    currency: Currency
    total: Amount


class Shipped(Facts):
    """An order is on its way."""

    order_id: Id


class Cancelled(Facts):
    """An order will not come."""

    order_id: Id
    reason: Line | None = None


FACTS: Final[Mapping[NotificationKind, type[Facts]]] = MappingProxyType(
    {
        NotificationKind.WELCOME: Welcome,
        NotificationKind.ORDER_CONFIRMED: Confirmed,
        NotificationKind.ORDER_SHIPPED: Shipped,
        NotificationKind.ORDER_CANCELLED: Cancelled,
    }
)
