"""The events that this release knows: a new event is added here."""

from __future__ import annotations

from typing import Final

from models import events
from models.registry import Registry
from models.upcasters import order_created_v1_to_v2

EVENTS: Final = Registry(
    [
        events.UserCreated,
        events.CartUpdated,
        events.OrderCreatedV1,
        events.OrderCreated,
        events.OrderStatusChanged,
        events.NotificationRequested,
        events.NotificationSent,
        events.NotificationFailed,
    ],
    upcasters={events.OrderCreatedV1: order_created_v1_to_v2},
)
