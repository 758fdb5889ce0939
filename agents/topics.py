"""The topics of the shop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import faust
from faust.types import TopicT

from agents.schema import EventSchema
from models.catalogue import EVENTS

NAMES: Final = frozenset({"users", "orders", "notifications"})


@dataclass(frozen=True, slots=True)
class Topics:
    """Each is partitioned by the id of what its events are about."""

    users: TopicT
    """``UserCreated``, ``CartUpdated``; key: user id."""
    orders: TopicT
    """``OrderCreated``, ``OrderStatusChanged``; key: order id."""
    notifications: TopicT
    """``NotificationRequested``, ``NotificationSent``, ``NotificationFailed``; key: its id."""


def declare(app: faust.App, partitions: int, retention: int) -> Topics:
    """Declare the topics, whose events are kept for so many seconds (0: for ever); one that exists
    keeps its number of partitions."""
    schema = EventSchema(EVENTS)
    users, orders, notifications = (
        app.topic(
            name,
            schema=schema,
            partitions=partitions,
            retention=retention,
            deleting=bool(retention),
        )
        for name in ("users", "orders", "notifications")
    )
    return Topics(users=users, orders=orders, notifications=notifications)
