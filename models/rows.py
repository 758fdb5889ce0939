"""What the agents' tables hold. Rows are frozen: a change is a new copy."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict

from models.events import CartUpdated, NotificationKind
from models.orders import Item, OrderStatus


class Row(BaseModel):
    """Base of all rows. Columns that a newer release added are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ProfileRow(Row):
    """Who a user is; key: user id."""

    user_id: str
    email: str
    name: str
    created_at: AwareDatetime


class CartRow(Row):
    """What a user means to order; key: user id."""

    user_id: str
    items: tuple[Item, ...] = ()
    cart_number: int | None = None
    updated_at: AwareDatetime

    def is_after(self, update: CartUpdated) -> bool:
        """Returns True if the user put this cart after the order that caused the update.

        The numbers of the carts decide; where one is missing, the times.
        """
        if update.ordered_at is None:
            return False
        if self.cart_number is not None and update.cart_number is not None:
            return self.cart_number > update.cart_number
        return self.updated_at > update.ordered_at


class StatusChange(Row):
    """When an order reached a status."""

    status: OrderStatus
    at: AwareDatetime
    reason: str | None = None


class OrderStateRow(Row):
    """Where an order stands and how it came there; key: order id."""

    order_id: str
    user_id: str
    items: tuple[Item, ...]
    currency: str
    status: OrderStatus
    history: tuple[StatusChange, ...]

    def has_reached(self, status: OrderStatus) -> bool:
        """Whether the order stands at a status or has passed it; no status comes twice."""
        return any(change.status is status for change in self.history)

    def moved(self, change: StatusChange) -> OrderStateRow:
        """The order after a change. Raises :class:`~models.errors.IllegalTransition`."""
        self.status.require(change.status)
        return self.model_copy(update={"status": change.status, "history": (*self.history, change)})


class NotificationStatus(StrEnum):
    """What became of a notification.

    ::

        (requested) ───▶ sent
             │            ▲
             └─▶ failed ──┘   by replaying the dead letter
    """

    SENT = "sent"
    FAILED = "failed"


class NotificationRow(Row):
    """What became of a notification; key: notification id."""

    notification_id: str
    user_id: str
    kind: NotificationKind
    status: NotificationStatus
    recipient: str | None = None
    subject: str | None = None
    error: str | None = None
    updated_at: AwareDatetime
