"""The events of the shop: facts in the past tense, never changed once published.

A change that old readers could not live with is a new version: add the class, register it in
:mod:`models.catalogue`, and say in :mod:`models.upcasters` how the version before becomes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from models.fields import (
    MAX_ITEMS,
    CartNumber,
    Currency,
    Email,
    FromText,
    Id,
    Line,
    Note,
    Quantity,
    UnitPrice,
)
from models.orders import Item, OrderStatus

AnyItems = Annotated[tuple[Item, ...], Field(max_length=MAX_ITEMS)]


def _not_empty(items: tuple[Item, ...]) -> tuple[Item, ...]:
    # Field(min_length=1) would also complain of an item that is there and does not fit.
    if not items:
        raise ValueError("at least one item is needed")
    return items


SomeItems = Annotated[
    AnyItems, AfterValidator(_not_empty), Field(json_schema_extra={"minItems": 1})
]


class Event(BaseModel):
    """Base of all events. Fields that a newer producer added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    version: ClassVar[int]
    entity: ClassVar[str]
    """The field that holds the id of what the event is about."""

    @property
    def key(self) -> str:
        """The id of what the event is about: events of one key stay in order."""
        return str(getattr(self, self.entity))


class UserCreated(Event):
    """Somebody signed up."""

    type = "UserCreated"
    version = 1
    entity = "user_id"

    user_id: Id
    email: Email
    name: Line


class CartUpdated(Event):
    """A cart now holds these items, and nothing else.

    If an order caused it, the event applies only to the cart that the user had at that order, and
    not to what the user has put there since.
    """

    type = "CartUpdated"
    version = 1
    entity = "user_id"

    user_id: Id
    items: FromText[AnyItems]
    cart_number: FromText[CartNumber | None] = None
    """Of the cart that the user put, or had at the order; ``None`` if the producer counts none."""
    ordered_at: AwareDatetime | None = None
    """When the order was placed that caused this; ``None`` if the user changed the cart."""


class OrderCreatedV1(Event):
    """An order of one article, in euros; superseded by :class:`OrderCreated`."""

    type = "OrderCreated"
    version = 1
    entity = "order_id"

    order_id: Id
    user_id: Id
    sku: Id
    quantity: FromText[Quantity]
    unit_price: FromText[UnitPrice]


class OrderCreated(Event):
    """A user ordered some items."""

    type = "OrderCreated"
    version = 2
    entity = "order_id"

    order_id: Id
    user_id: Id
    items: FromText[SomeItems]
    currency: Currency
    cart_number: FromText[CartNumber | None] = None
    """Of the cart that the user had at that moment; ``None`` if the producer counts none."""


class OrderStatusChanged(Event):
    """An order has reached a status."""

    type = "OrderStatusChanged"
    version = 1
    entity = "order_id"

    order_id: Id
    status: OrderStatus
    reason: Line | None = None


class NotificationKind(StrEnum):
    """What a user is told; each has its templates in ``agents/templates``."""

    WELCOME = "welcome"
    ORDER_CONFIRMED = "order_confirmed"
    ORDER_SHIPPED = "order_shipped"
    ORDER_CANCELLED = "order_cancelled"


class _Notification(Event):
    version = 1
    entity = "notification_id"

    notification_id: Id
    user_id: Id
    kind: NotificationKind
    recipient: Email | None = None
    """``None``: the address that the user signed up with."""


class NotificationRequested(_Notification):
    """A user is to be told something."""

    type = "NotificationRequested"

    data: FromText[Mapping[str, JsonValue]] = Field(default_factory=dict)
    """What the templates of this kind need."""


class NotificationSent(_Notification):
    """The mail server has taken the mail."""

    type = "NotificationSent"

    subject: Note


class NotificationFailed(_Notification):
    """The user could not be told; the request lies among the dead letters."""

    type = "NotificationFailed"

    error: Note
