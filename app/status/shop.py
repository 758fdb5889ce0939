"""The parts of the status that only the shop has: its latest orders and mails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app import mailbox, tables
from app.mailbox import MailHeading
from app.status.models import RecentOrder
from models.orders import OrderStatus
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load

SHOWN = 10
"""Entries of each list."""
UNREADABLE = "unreadable"
_STATUSES = {status.value for status in OrderStatus}


class ShopParts(NamedTuple):
    """What the shop shows beside the rest."""

    mails: Sequence[MailHeading]
    orders: Sequence[RecentOrder]
    unreadable: Sequence[str]
    """Rows of agents' tables that are not what they should be, for people."""


async def ask_shop(database: Database) -> ShopParts:
    """The latest of it. Raises what asyncpg raises, and DatabaseError."""
    mails = await mailbox.latest(database, SHOWN)
    async with database.transaction() as connection:
        orders = await connection.fetch(load("app", "select_recent_orders"), SHOWN)
        ids = [order["order_id"] for order in orders]
        states = await tables.read(connection, load("app", "select_order_statuses"), ids)
    statuses = {
        state["order_id"]: state["status"] if state["status"] in _STATUSES else UNREADABLE
        for state in states
    }
    placed = OrderStatus.PLACED.value
    return ShopParts(
        mails,
        [
            RecentOrder.model_validate(
                {"status": statuses.get(order["order_id"], placed), **dict(order)}
            )
            for order in orders
        ],
        [f"order_states {key}" for key, status in statuses.items() if status == UNREADABLE],
    )
