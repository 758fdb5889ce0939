"""Notifications: tells users by mail, once for each request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, cast

import faust
from faust.types import EventT, StreamT

from agents.errors import UnknownRecipient
from agents.rendering import render
from agents.routing import send, sent_home
from agents.topics import Topics
from connectors.errors import MailRejected
from connectors.mail import Mail
from connectors.processing.retries import Retries
from models.envelope import Message
from models.events import Event, NotificationFailed, NotificationRequested, NotificationSent
from models.fields import MAX_NOTE
from models.rows import NotificationRow, NotificationStatus

PATIENCE = Retries(
    attempts=13, delay=0.5, factor=3.0, max_delay=900.0, never=(MailRejected, UnknownRecipient)
)
"""A mail server may be away for an hour. What it refuses for good is not sent again."""

AddressOf = Callable[[str], Awaitable[str | None]]
"""The mail address of a user by id; ``None`` where nobody knows it."""


class SendsMail(Protocol):
    """See :class:`~connectors.mail.Mailer`."""

    async def send(self, mail: Mail) -> None:
        """Return when the mail has been taken."""


def install(app: faust.App, topics: Topics, mailer: SendsMail, address_of: AddressOf) -> None:
    """Declare the table ``notifications`` and the agent that writes it."""
    notifications = app.Table(
        "notifications",
        key_type=str,
        value_type=NotificationRow,
        partitions=topics.notifications.partitions,
        options={"indexes": ["user_id"]},
    )

    async def tell_why(event: EventT[Message[Event]], error: Exception) -> None:
        message = cast(Message[Event], event.value)
        if isinstance(message.event, NotificationRequested):
            await send(topics.notifications, failure(message, message.event, error))

    @app.agent(topics.notifications, name="notifications", retries=PATIENCE, on_give_up=tell_why)
    async def notify(stream: StreamT[Message[Event]]) -> None:
        async for message in stream:
            if await sent_home(topics.notifications, message):
                continue
            known = notifications.get(message.event.key)
            if known is not None and known.status is NotificationStatus.SENT:
                continue
            match message.event:
                case NotificationRequested() as request:
                    sent = message.caused(await deliver(request))
                    notifications[request.notification_id] = row_of_sent(sent)
                    await send(topics.notifications, sent)
                case NotificationFailed() as failed:
                    notifications[failed.notification_id] = row_of_failed(message, failed)

    async def deliver(request: NotificationRequested) -> NotificationSent:
        recipient = request.recipient or await address_of(request.user_id)
        if recipient is None:
            raise UnknownRecipient(
                f"no address is known of user {request.user_id}: create the user, then replay"
            )
        subject, text, html = render(request.kind, request.data)
        # Built before the mail is out, since nothing may fail afterwards.
        sent = NotificationSent(
            notification_id=request.notification_id,
            user_id=request.user_id,
            kind=request.kind,
            recipient=recipient,
            subject=subject,
        )
        await mailer.send(
            Mail(recipient, subject, text, html, idempotency_key=request.notification_id)
        )
        return sent


def failure(
    message: Message[Event], request: NotificationRequested, error: Exception
) -> Message[Event]:
    """The event that says why a user could not be told."""
    return message.caused(
        NotificationFailed(
            notification_id=request.notification_id,
            user_id=request.user_id,
            kind=request.kind,
            recipient=request.recipient,
            error=" ".join(f"{type(error).__name__}: {error}".split())[:MAX_NOTE],
        )
    )


def row_of_sent(message: Message[NotificationSent]) -> NotificationRow:
    """The row of a notification that was sent."""
    sent = message.event
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
