"""What reads: the shop's plain tables, and by their side what the agents have made of them."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from app import tables
from app.web.errors import NotFound, Unreadable
from app.web.paging import Cursor
from app.web.schemas import Cart, Notifications, Order, UserWithCart
from models.orders import OrderStatus, total
from models.rows import CartRow, NotificationRow, OrderStateRow, StatusChange
from redfaust.postgres.database import Connection, Database
from redfaust.postgres.queries import load

M = TypeVar("M", bound=BaseModel)

logger = logging.getLogger(__name__)


async def find_user(database: Database, user_id: str) -> UserWithCart:
    """Raises :class:`NotFound`."""
    async with database.transaction() as connection:
        user = await connection.fetchrow(load("app.web", "select_user"), user_id)
        if user is None:
            raise NotFound(f"no user has the id {user_id}")
        return UserWithCart(**dict(user), cart=await _cart(connection, user_id))


async def find_cart(database: Database, user_id: str) -> Cart:
    """Raises :class:`NotFound`."""
    return (await find_user(database, user_id)).cart


async def _cart(connection: Connection, user_id: str) -> Cart:
    for row in await tables.read(connection, load("app.web", "select_cart"), user_id):
        return Cart(user_id=user_id, items=_read(CartRow, row["value"], f"cart {user_id}").items)
    return Cart(user_id=user_id)


async def find_order(database: Database, order_id: str) -> Order:
    """Where the agents know the order, their state of it; until then it is as it was placed.

    Orders of foreign producers are known to the agents alone. Raises :class:`NotFound`, and
    :class:`Unreadable` for a state that somebody has edited to what is none.
    """
    async with database.transaction() as connection:
        states = await tables.read(connection, load("app.web", "select_order_state"), order_id)
        for row in states:
            return _order(_read(OrderStateRow, row["value"], f"order {order_id}"))
        order = await connection.fetchrow(load("app.web", "select_order"), order_id)
    if order is None:
        raise NotFound(f"no order has the id {order_id}")
    placed = StatusChange(status=OrderStatus.PLACED, at=order["placed_at"])
    state = {**dict(order), "status": OrderStatus.PLACED, "history": (placed,)}
    return _order(OrderStateRow.model_validate(state))


def _order(state: OrderStateRow) -> Order:
    return Order(**dict(state), total=total(state.items))


async def find_notifications(
    database: Database, user_id: str, *, limit: int, after: Cursor | None
) -> Notifications:
    """One page. Raises :class:`NotFound` for a user nobody has heard of."""
    async with database.transaction() as connection:
        rows = await tables.read(
            connection,
            load("app.web", "select_notifications"),
            user_id,
            limit + 1,
            *(after or (None, None)),
        )
        # A foreign producer's user has notifications, and no row among the users.
        known = rows or after or await connection.fetchrow(load("app.web", "select_user"), user_id)
    if not known:
        raise NotFound(f"no user has the id {user_id}")
    page = rows[:limit]
    has_more = len(rows) > limit
    notifications = []
    for row in page:
        with suppress(Unreadable):  # the others are good, and it is logged
            notifications.append(_read(NotificationRow, row["value"], f"notification of {user_id}"))
    return Notifications(
        notifications=notifications,
        next=str(Cursor(page[-1]["updated_at"], page[-1]["key"])) if has_more else None,
    )


def _read(model: type[M], value: Any, what: str) -> M:
    """A row of an agent's table."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        logger.error("The row of %s cannot be read: correct it by SQL (%s)", what, error.title)
        raise Unreadable(
            f"the state of {what} cannot be read now: an operator has to correct its row"
        ) from None
