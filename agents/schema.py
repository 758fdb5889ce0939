"""Between the entries of a topic and the messages that agents work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import faust
from faust.exceptions import ValueDecodeError
from faust.types import AppT
from faust.types import Message as Entry

from models.envelope import Message
from models.errors import EventError, NewerEventVersion
from models.events import Event
from models.registry import Origin, Registry


class NewerMessage:
    """An event of a version that this release does not know yet.

    The agent that looks at it fails, so it is tried again as the agent's ``retries`` say: by then
    it may be read by a worker of the newer release.
    """

    def __init__(self, error: NewerEventVersion) -> None:
        self._error = error

    @property
    def event(self) -> Event:
        """Raises :class:`~models.errors.NewerEventVersion`."""
        raise NewerEventVersion(str(self._error))


class EventSchema(faust.Schema[str, Message[Event]]):
    """Values are :class:`~models.envelope.Message`, keys are text.

    An entry that is no event of the registry is a ``ValueDecodeError``, which makes it a dead
    letter. One that a newer release has written is a :class:`NewerMessage`.
    """

    def __init__(self, registry: Registry) -> None:
        super().__init__(key_type=str, key_serializer="raw", value_serializer="raw")
        self._registry = registry

    def loads_value(
        self,
        app: AppT,  # noqa: ARG002 - Faust's signature
        message: Entry,
        *,
        loads: Callable[..., Any] | None = None,  # noqa: ARG002
        serializer: Any = None,  # noqa: ARG002
    ) -> Message[Event]:
        """The event of an entry, in its envelope."""
        origin = Origin(message.topic, message.partition, message.offset, message.timestamp)
        headers = cast("Mapping[str, bytes]", dict(message.headers or {}))
        try:
            return self._registry.parse(message.value or b"", headers, origin=origin)
        except NewerEventVersion as error:
            return cast("Message[Event]", NewerMessage(error))
        except EventError as error:
            raise ValueDecodeError(str(error)) from error

    def dumps_value(
        self,
        app: AppT,  # noqa: ARG002
        value: Any,
        *,
        serializer: Any = None,  # noqa: ARG002
        headers: Any,
    ) -> tuple[Any, Any]:
        """The event as JSON; its envelope joins the headers."""
        return value.body(), self.on_dumps_value_prepare_headers(value, headers)

    def on_dumps_value_prepare_headers(self, value: Any, headers: Any) -> Any:
        """The headers with the envelope among them."""
        envelope = {name: text.encode() for name, text in value.envelope.headers().items()}
        return {**dict(headers or {}), **envelope}
