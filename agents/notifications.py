"""Notifications: keeps what became of each request to tell a user something."""

from __future__ import annotations

import faust
from faust.types import StreamT

from agents.patience import PATIENT
from agents.routing import reroute
from agents.topics import Topics
from models.envelope import Message
from models.events import Event, NotificationFailed, NotificationSent
from models.rows import NotificationRow, NotificationStatus


def install(app: faust.App, topics: Topics) -> None:
    """Declare the table ``notifications`` and the agent that writes it."""
    notifications = app.Table(
        "notifications",
        key_type=str,
        value_type=NotificationRow,
        partitions=topics.notifications.partitions,
        options={"indexes": ["user_id"]},
    )

    @app.agent(topics.notifications, name="notifications", retries=PATIENT)
    async def note(stream: StreamT[Message[Event]]) -> None:
        async for message in stream:
            if await reroute(topics.notifications, message):
                continue
            known = notifications.get(message.event.key)
            if known is not None and known.status is NotificationStatus.SENT:
                continue
            match message.event:
                case NotificationSent() as sent:
                    notifications[sent.notification_id] = row_of_sent(message, sent)
                case NotificationFailed() as failed:
                    notifications[failed.notification_id] = row_of_failed(message, failed)


def row_of_sent(message: Message[Event], sent: NotificationSent) -> NotificationRow:
    """The row of a notification that was sent."""
    return NotificationRow(
        notification_id=sent.notification_id,
        user_id=sent.user_id,
        kind=sent.kind,
        status=NotificationStatus.SENT,
        recipient=sent.recipient,
        subject=sent.subject,
        updated_at=message.envelope.occurred_at,
    )


def row_of_failed(message: Message[Event], failed: NotificationFailed) -> NotificationRow:
    """The row of a notification that could not be sent."""
    return NotificationRow(
        notification_id=failed.notification_id,
        user_id=failed.user_id,
        kind=failed.kind,
        status=NotificationStatus.FAILED,
        recipient=failed.recipient,
        error=failed.error,
        updated_at=message.envelope.occurred_at,
    )
