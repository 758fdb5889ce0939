"""Users: keeps their profiles and welcomes them."""

from __future__ import annotations

import faust
from faust.types import StreamT

from agents.notices import notice
from agents.patience import PATIENT
from agents.routing import reroute, send
from agents.topics import Topics
from models.envelope import Message
from models.events import Event, NotificationKind, UserCreated
from models.rows import ProfileRow


def install(app: faust.App, topics: Topics) -> None:
    """Declare the table ``profiles`` and the agent that writes it."""
    profiles = app.Table(
        "profiles", key_type=str, value_type=ProfileRow, partitions=topics.users.partitions
    )

    @app.agent(topics.users, name="users", retries=PATIENT)
    async def users(stream: StreamT[Message[Event]]) -> None:
        async for message in stream:
            if await reroute(topics.users, message):
                continue
            if isinstance(message.event, UserCreated):
                profiles[message.event.user_id] = profile(message, message.event)
                await send(topics.notifications, welcome(message, message.event))


def profile(message: Message[Event], user: UserCreated) -> ProfileRow:
    """The row of a new user."""
    return ProfileRow(
        user_id=user.user_id,
        email=user.email,
        name=user.name,
        created_at=message.envelope.occurred_at,
    )


def welcome(message: Message[Event], user: UserCreated) -> Message[Event]:
    """The request for a mail that welcomes a new user."""
    return notice(
        message,
        NotificationKind.WELCOME,
        user.user_id,
        recipient=user.email,
        data={"name": user.name},
    )
