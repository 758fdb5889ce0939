"""What reads: the shop's plain tables, and by their side what the agents have made of them."""

from __future__ import annotations

from app import tables
from app.web.errors import NotFound
from app.web.paging import Cursor
from app.web.schemas import Cart, Notifications, Order, UserWithCart
from connectors.postgres.database import Connection, Database
from connectors.postgres.queries import load
from models.orders import OrderStatus, total
from models.rows import CartRow, NotificationRow, OrderStateRow, StatusChange


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
        return Cart(user_id=user_id, items=CartRow.model_validate(row["value"]).items)
    return Cart(user_id=user_id)


async def find_order(database: Database, order_id: str) -> Order:
    """Where the agents know the order, their state of it; until then it is as it was placed.

    Orders of foreign producers are known to the agents alone. Raises :class:`NotFound`.
    """
    async with database.transaction() as connection:
        states = await tables.read(connection, load("app.web", "select_order_state"), order_id)
        for row in states:
            return _order(OrderStateRow.model_validate(row["value"]))
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
    return Notifications(
        notifications=[NotificationRow.model_validate(row["value"]) for row in page],
        next=str(Cursor(page[-1]["updated_at"], page[-1]["key"])) if has_more else None,
    )
