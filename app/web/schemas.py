"""Requests and answers of the web API. Money is in minor units (cents), as an integer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from models.events import AnyItems, SomeItems
from models.fields import Currency, Email, Id, Line
from models.orders import Item, OrderStatus
from models.rows import NotificationRow, StatusChange


class _Request(BaseModel):
    # A misspelt field is an error: ignored, it would be a surprise later.
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewUser(_Request):
    """Somebody who signs up."""

    email: Email
    name: Line


class NewCart(_Request):
    """What a cart is to hold, and nothing else."""

    items: AnyItems


class NewOrder(_Request):
    """What a user orders."""

    user_id: Id
    items: SomeItems
    currency: Currency


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class User(_Answer):
    """A user as signed up."""

    user_id: str
    email: str
    name: str
    created_at: datetime


class Cart(_Answer):
    """What a user means to order."""

    user_id: str
    items: Sequence[Item] = ()


class UserWithCart(User):
    """A user with the cart."""

    cart: Cart


class PlacedOrder(_Answer):
    """An order that was taken; its confirmation follows."""

    order_id: str
    user_id: str
    status: OrderStatus
    total: int
    currency: str


class Order(PlacedOrder):
    """An order with how it came to its status."""

    items: Sequence[Item]
    history: Sequence[StatusChange]


class Notifications(_Answer):
    """Notifications of a user, the newest first."""

    notifications: Sequence[NotificationRow]
    next: str | None = None
    """Where the next page begins: send it as ``after``. ``None``: this is the last one."""


class Refused(_Answer):
    """Why a request was refused."""

    detail: str
