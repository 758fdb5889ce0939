"""What changes something: each command writes rows and events in the one transaction it is given.

A command raises :class:`~app.web.errors.Refusal`, which takes back what it wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import asyncpg

from app.web.errors import Conflict, NotFound
from app.web.request_context import Caller
from app.web.schemas import Cart, NewCart, NewOrder, NewUser, PlacedOrder, User
from models.envelope import first_message
from models.events import CartUpdated, Event, OrderCreated, UserCreated
from models.orders import Item, OrderStatus, total
from redfaust.outbox.outbox import Transaction
from redfaust.postgres.queries import load


async def create_user(tx: Transaction, caller: Caller, new: NewUser) -> User:
    """Sign somebody up, unless the address has an account."""
    user_id = str(uuid4())
    try:
        created_at = await tx.connection.fetchval(
            load("app.web", "insert_user"), user_id, new.email, new.name
        )
    except asyncpg.UniqueViolationError as error:
        raise Conflict("a user with this email exists already: choose another email") from error
    await _publish(tx, caller, "users", UserCreated(user_id=user_id, **new.model_dump()))
    return User(user_id=user_id, created_at=created_at, **new.model_dump())


async def replace_cart(tx: Transaction, caller: Caller, user_id: str, new: NewCart) -> Cart:
    """Say what a user's cart holds."""
    number = await tx.connection.fetchval(load("app.web", "count_cart"), user_id)
    if number is None:
        raise _unknown(user_id)
    update = CartUpdated(user_id=user_id, items=new.items, cart_number=number)
    await _publish(tx, caller, "users", update)
    return Cart(user_id=user_id, items=new.items)


async def place_order(tx: Transaction, caller: Caller, new: NewOrder) -> PlacedOrder:
    """Take an order; the agents confirm it."""
    order_id = str(uuid4())
    try:
        cart_number = await tx.connection.fetchval(
            load("app.web", "insert_order"),
            order_id,
            new.user_id,
            _plain(new.items),
            new.currency,
            total(new.items),
        )
    except asyncpg.ForeignKeyViolationError as error:
        raise _unknown(new.user_id) from error
    order = OrderCreated(order_id=order_id, cart_number=cart_number, **dict(new))
    await _publish(tx, caller, "orders", order)
    return PlacedOrder(
        order_id=order.order_id,
        user_id=order.user_id,
        status=OrderStatus.PLACED,
        total=total(order.items),
        currency=order.currency,
    )


def _unknown(user_id: str) -> NotFound:
    return NotFound(f"no user has the id {user_id}")


async def _publish(tx: Transaction, caller: Caller, topic: str, event: Event) -> None:
    message = first_message(
        event, correlation_id=caller.correlation_id, traceparent=caller.traceparent
    )
    await tx.publish(topic, message.body(), key=event.key, headers=message.envelope.headers())


def _plain(items: Sequence[Item]) -> list[dict[str, object]]:
    return [item.model_dump() for item in items]
