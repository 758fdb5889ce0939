"""Mail: tells users what is to be told, once for each request.

A mail server is waited for, so this agent's events are shared: as many mails are on their way as
all workers together may send, however many partitions the topic has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, cast

import faust
from faust.types import EventT, StreamT
from pydantic import ValidationError

from agents.errors import AgentError, NoticeUnusable, UnknownRecipient
from agents.patience import PatientRetries
from agents.rendering import render
from agents.routing import has_own_key, send
from agents.schema import NewerMessage
from agents.topics import Topics
from models.envelope import Message, explain
from models.events import Event, NotificationFailed, NotificationRequested, NotificationSent
from models.fields import MAX_NOTE, printable
from redfaust.errors import MailRejected, RedfaustError
from redfaust.mail import Mail
from redfaust.mail.recorded import AT_ONCE

PATIENCE = PatientRetries(
    attempts=13,
    delay=0.5,
    factor=3.0,
    max_delay=900.0,
    never=(MailRejected, UnknownRecipient, NoticeUnusable),
)
"""A mail server may be away for an hour. What it refuses for good is not sent again, nor is that of
which no mail can be made."""

TROUBLES = (RedfaustError, AgentError, OSError, TimeoutError)
"""What servers cause, and what has its own reason. Any other error comes again at each attempt."""

AT_HAND = 4 * AT_ONCE
"""Events in work at a time: while some mails are on their way, others are made ready, and others
noted as sent."""

AddressOf = Callable[[str], Awaitable[str | None]]
"""The mail address of a user by id; ``None`` where nobody knows it."""


class SendsMail(Protocol):
    """See :class:`~redfaust.mail.RecordedMailer`."""

    async def send(self, mail: Mail) -> None:
        """Return when the mail has been taken, now or when its key was used before."""


def install(app: faust.App, topics: Topics, mailer: SendsMail, address_of: AddressOf) -> None:
    """Declare the agent that sends mail, and says on the topic what became of it."""

    async def tell_why(event: EventT[Message[Event]], error: Exception) -> None:
        message = cast(Message[Event], event.value)
        if not isinstance(message, NewerMessage) and isinstance(
            message.event, NotificationRequested
        ):
            await send(topics.notifications, failure(message, message.event, error))

    @app.agent(
        topics.notifications,
        name="mail",
        delivery="shared",
        concurrency=AT_HAND,
        retries=PATIENCE,
        on_give_up=tell_why,
    )
    async def mail(stream: StreamT[Message[Event]]) -> None:
        async for message in stream:
            # Without its key it comes again, when the ordered agent has sent it home.
            if isinstance(message.event, NotificationRequested) and has_own_key(message):
                await send(topics.notifications, message.caused(await try_once(message.event)))

    async def try_once(request: NotificationRequested) -> NotificationSent:
        try:
            return await deliver(request)
        except TROUBLES:
            raise
        except Exception as error:
            reason = explain(error) if isinstance(error, ValidationError) else ""
            raise NoticeUnusable(
                f"{request.kind}: {type(error).__name__}{': ' if reason else ''}{reason}"
            ) from None

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
            error=printable(f"{type(error).__name__}: {error}")[:MAX_NOTE],
        )
    )
