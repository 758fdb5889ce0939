"""Carts and orders: what users mean to buy, and what becomes of what they bought."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import faust
from faust.types import StreamT

from agents.errors import UnknownOrder
from agents.notices import notice
from agents.patience import PATIENT
from agents.routing import is_misplaced, reroute, send
from agents.topics import Topics
from models.envelope import Message
from models.events import (
    CartUpdated,
    Event,
    NotificationKind,
    OrderCreated,
    OrderStatusChanged,
    UserCreated,
)
from models.orders import OrderStatus, total
from models.rows import CartRow, OrderStateRow, StatusChange

NOTICES: Final[Mapping[OrderStatus, NotificationKind]] = {
    OrderStatus.SHIPPED: NotificationKind.ORDER_SHIPPED,
    OrderStatus.CANCELLED: NotificationKind.ORDER_CANCELLED,
}
"""What the user is told when an order reaches a status."""


def install(app: faust.App, topics: Topics) -> None:
    """Declare the tables ``carts`` and ``order_states`` and the agents that write them."""
    install_carts(app, topics)
    install_orders(app, topics)


def install_carts(app: faust.App, topics: Topics) -> None:
    """A cart for every user."""
    carts = app.Table("carts", key_type=str, value_type=CartRow, partitions=topics.users.partitions)

    @app.agent(topics.users, name="carts", retries=PATIENT)
    async def keep_carts(stream: StreamT[Message[Event]]) -> None:
        async for message in stream:
            if is_misplaced(message):  # the agent `users` sends it home
                continue
            at = message.envelope.occurred_at
            match message.event:
                case UserCreated(user_id=user_id) if user_id not in carts:
                    carts[user_id] = CartRow(user_id=user_id, updated_at=at)
                case CartUpdated(user_id=user_id) as update:
                    cart = carts.get(user_id)
                    if cart is None or not cart.is_after(update):
                        carts[user_id] = CartRow(
                            user_id=user_id,
                            items=update.items,
                            cart_number=update.cart_number,
                            updated_at=at,
                        )


def install_orders(app: faust.App, topics: Topics) -> None:
    """The life of every order."""
    order_states = app.Table(
        "order_states", key_type=str, value_type=OrderStateRow, partitions=topics.orders.partitions
    )

    @app.agent(topics.orders, name="orders", retries=PATIENT)
    async def orders(stream: StreamT[Message[Event]]) -> None:
        async for message in stream:
            if await reroute(topics.orders, message):
                continue
            match message.event:
                case OrderCreated() as order if order.order_id not in order_states:
                    await confirm(message, order)
                case OrderStatusChanged() as change:
                    await move(message, change)

    async def confirm(message: Message[Event], order: OrderCreated) -> None:
        confirmed = message.caused(
            OrderStatusChanged(order_id=order.order_id, status=OrderStatus.CONFIRMED)
        )
        order_states[order.order_id] = placed(message, order).moved(reached(confirmed))
        await send(topics.orders, confirmed)
        await send(topics.users, emptied_cart(message, order))
        await send(topics.notifications, confirmation(message, order))

    async def move(message: Message[Event], change: OrderStatusChanged) -> None:
        state = order_states.get(change.order_id)
        if state is None:
            raise UnknownOrder(
                f"order {change.order_id} was never placed: publish its OrderCreated, then replay"
            )
        # Not only the current one: what is said here comes back after what others said meanwhile.
        if state.has_reached(change.status):
            return
        at = message.envelope.occurred_at
        order_states[change.order_id] = state.moved(
            StatusChange(status=change.status, at=at, reason=change.reason)
        )
        if (kind := NOTICES.get(change.status)) is not None:
            about = {"order_id": change.order_id, "reason": change.reason}
            await send(topics.notifications, notice(message, kind, state.user_id, data=about))


def placed(message: Message[Event], order: OrderCreated) -> OrderStateRow:
    """The row of a new order."""
    at = message.envelope.occurred_at
    return OrderStateRow(
        order_id=order.order_id,
        user_id=order.user_id,
        items=order.items,
        currency=order.currency,
        status=OrderStatus.PLACED,
        history=(StatusChange(status=OrderStatus.PLACED, at=at),),
    )


def reached(message: Message[OrderStatusChanged]) -> StatusChange:
    """The line of the history that an event stands for."""
    change = message.event
    return StatusChange(status=change.status, at=message.envelope.occurred_at, reason=change.reason)


def emptied_cart(message: Message[Event], order: OrderCreated) -> Message[Event]:
    """The event that takes out of the cart what was ordered."""
    return message.caused(
        CartUpdated(
            user_id=order.user_id,
            items=(),
            cart_number=order.cart_number,
            ordered_at=message.envelope.occurred_at,
        )
    )


def confirmation(message: Message[Event], order: OrderCreated) -> Message[Event]:
    """The request for a mail that confirms an order."""
    return notice(
        message,
        NotificationKind.ORDER_CONFIRMED,
        order.user_id,
        data={
            "order_id": order.order_id,
            "items": [item.model_dump() for item in order.items],
            "currency": order.currency,
            "total": total(order.items),
        },
    )
