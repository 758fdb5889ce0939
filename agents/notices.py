"""How agents ask for a user to be told something."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from models.envelope import Message, derived_id
from models.events import Event, NotificationKind, NotificationRequested


def notice(
    cause: Message[Event],
    kind: NotificationKind,
    user_id: str,
    *,
    recipient: str | None = None,
    data: Mapping[str, JsonValue] | None = None,
) -> Message[NotificationRequested]:
    """A request that follows from ``cause``, and is the same one if the cause is seen again."""
    return cause.caused(
        NotificationRequested(
            notification_id=derived_id(cause.envelope.event_id, kind),
            user_id=user_id,
            kind=kind,
            recipient=recipient,
            data=data or {},
        )
    )
