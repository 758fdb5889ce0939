"""From the bytes of an entry to an event of the newest version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

from pydantic import ValidationError
from pydantic_core import from_json

from models.envelope import FIELDS, Envelope, Message, derived_id, explain, fields_of
from models.errors import (
    InvalidEvent,
    NewerEventVersion,
    UnknownEventType,
    UnknownEventVersion,
)
from models.events import Event
from models.traces import new_trace
from models.upcasters import Body, Upcaster

_NEEDED: Final = frozenset(
    name for name, field in Envelope.model_fields.items() if field.is_required()
)
"""Of the fields of an envelope. What nobody says is made up."""


class Origin(NamedTuple):
    """Where and since when an entry lies; what it does not say of itself is taken from here."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    """When it was appended, in seconds since the epoch."""

    @property
    def place(self) -> str:
        """Unique among all entries, such as ``orders/0/1745000000000``."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class Registry:
    """The events that are known, by type and version."""

    def __init__(
        self, events: Iterable[type[Event]], upcasters: Mapping[type[Event], Upcaster]
    ) -> None:
        """Raises ``ValueError`` unless every version but the newest has its upcaster."""
        self._versions: dict[str, dict[int, type[Event]]] = {}
        for event in events:
            versions = self._versions.setdefault(event.type, {})
            if event.version in versions:
                raise ValueError(f"{event.type} v{event.version} is registered twice")
            versions[event.version] = event
        self._upcasters = {(old.type, old.version): step for old, step in upcasters.items()}
        for name, versions in self._versions.items():
            for version in range(min(versions), max(versions)):
                if (name, version) not in self._upcasters:
                    raise ValueError(f"no upcaster from {name} v{version} to v{version + 1}")

    def parse(
        self,
        value: bytes,
        headers: Mapping[str, bytes | str],
        *,
        origin: Origin | None = None,
    ) -> Message[Event]:
        """The event of an entry, upcast to the newest version, in its envelope.

        A header that is missing is looked for among the fields of the body, since a foreign
        producer may know of no headers; what is found in neither is made up, the same for the
        same ``origin``. The envelope has the version of the event as it is returned, so that the
        two may be written to a topic again together.

        Raises :class:`~models.errors.EventError`.
        """
        body = _json_object(value)
        said: dict[str, Any] = fields_of(headers)
        if len(said) < len(FIELDS):
            said = {name: body[name] for name in FIELDS if body.get(name) is not None} | said
        envelope = self._envelope(said, origin)
        event = self._event(envelope, body)
        if event.version != envelope.version:
            envelope = envelope.model_copy(update={"version": event.version})
        return Message(envelope, event)

    def _envelope(self, said: dict[str, Any], origin: Origin | None) -> Envelope:
        if "type" not in said:
            raise InvalidEvent("type: missing from the headers and from the body")
        if not said.keys() >= _NEEDED:
            said = {**self._made_up(said, origin), **said}
        return Envelope.from_fields(said)

    def _made_up(self, said: Mapping[str, Any], origin: Origin | None) -> dict[str, Any]:
        event_id = said.get("event_id") or (derived_id(origin.place) if origin else str(uuid4()))
        appended_at = datetime.fromtimestamp(origin.timestamp, UTC) if origin else datetime.now(UTC)
        return {
            "event_id": event_id,
            "version": max(self._known_versions(str(said["type"]))),
            "occurred_at": appended_at.isoformat(),
            "correlation_id": event_id,
            "traceparent": new_trace(),
        }

    def _known_versions(self, name: str) -> Mapping[int, type[Event]]:
        try:
            return self._versions[name]
        except KeyError:
            known = ", ".join(sorted(self._versions))
            raise UnknownEventType(f"unknown event type {name!r}; known: {known}") from None

    def _event(self, envelope: Envelope, body: Body) -> Event:
        name, version = envelope.type, envelope.version
        versions = self._known_versions(name)
        if version not in versions:
            known = ", ".join(f"v{number}" for number in sorted(versions))
            kind = NewerEventVersion if version > max(versions) else UnknownEventVersion
            raise kind(f"unknown version {version} of {name}; known: {known}")
        # Each version is validated as itself, so that an error names the producer's own field.
        event = _validated(versions[version], body)
        while (upcast := self._upcasters.get((name, version))) is not None:
            version += 1
            event = _validated(versions[version], upcast(event.model_dump(mode="json")))
        return event


def _json_object(value: bytes) -> dict[str, Any]:
    try:
        body = from_json(value, allow_inf_nan=False)  # integers of any size
    except ValueError as error:
        raise InvalidEvent(f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidEvent(f"a JSON object is needed, not {type(body).__name__}")
    return body


def _validated(event: type[Event], body: Body) -> Event:
    try:
        return event.model_validate(body)
    except ValidationError as error:
        raise InvalidEvent(f"{event.type} v{event.version}: {explain(error)}") from error
