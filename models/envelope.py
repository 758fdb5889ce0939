"""What travels beside an event, and the event together with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha1
from typing import Annotated, Final, Generic, TypeVar
from uuid import UUID, uuid4

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from models.errors import InvalidEvent
from models.events import Event
from models.fields import Id
from models.traces import child_of, readable

_SEED: Final = UUID("5d3a7b8e-64d1-5c0e-9f53-0d6d6a1f9b27").bytes

E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)


def derived_id(*parts: str) -> str:
    """An id that is the same whenever it is derived from the same parts.

    What is derived from an event is thereby recognised when the event is delivered again.
    """
    # uuid5, without an object in between: each event that follows from another needs one.
    digest = bytearray(sha1(_SEED + "\n".join(parts).encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Envelope(BaseModel):
    """Who caused an event, when, and what belongs together."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    event_id: Id
    type: Id
    version: int = Field(ge=1)
    occurred_at: AwareDatetime
    correlation_id: Id
    """The same in everything that follows from one request."""
    causation_id: Id | None = None
    """The event from which this one follows; ``None`` for the first."""
    traceparent: Annotated[str, AfterValidator(readable)]

    @classmethod
    def first(
        cls,
        event: Event,
        *,
        correlation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Envelope:
        """An envelope for an event that follows from no other event."""
        event_id = str(uuid4())
        return cls(
            event_id=event_id,
            type=event.type,
            version=event.version,
            occurred_at=datetime.now(UTC),
            correlation_id=correlation_id or event_id,
            traceparent=child_of(traceparent),
        )

    def caused(self, event: Event) -> Envelope:
        """An envelope for an event that follows from this one.

        Its id is derived, so an agent that handles an event twice says the same thing twice. An
        event may therefore cause only one event of a type about the same entity.
        """
        return Envelope(
            event_id=derived_id(self.event_id, event.type, event.key),
            type=event.type,
            version=event.version,
            occurred_at=datetime.now(UTC),
            correlation_id=self.correlation_id,
            causation_id=self.event_id,
            traceparent=child_of(self.traceparent),
        )

    def headers(self) -> dict[str, str]:
        """As it is written beside an entry."""
        return {name: str(value) for name, value in self.model_dump(mode="json").items() if value}

    @classmethod
    def from_headers(cls, headers: Mapping[str, bytes | str]) -> Envelope:
        """As it was written. Raises :class:`InvalidEvent`, naming the header."""
        return cls.from_fields(fields_of(headers))

    @classmethod
    def from_fields(cls, fields: Mapping[str, object]) -> Envelope:
        """From fields by name. Raises :class:`InvalidEvent`, naming the field."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise InvalidEvent(f"envelope: {explain(error)}") from error


FIELDS: Final = tuple(Envelope.model_fields)
"""The names of what an envelope holds, which are those of its headers."""


def fields_of(headers: Mapping[str, bytes | str]) -> dict[str, str]:
    """The envelope's fields among the headers, as text; other headers are nothing to us.

    Raises :class:`InvalidEvent`, naming the header that is not UTF-8.
    """
    fields: dict[str, str] = {}
    for name in FIELDS:
        if (value := headers.get(name)) is None:
            continue
        try:
            fields[name] = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError as error:
            raise InvalidEvent(f"envelope: {name}: not UTF-8") from error
    return fields


def explain(error: ValidationError) -> str:
    """The first thing that is wrong, with the path of its field, such as ``items.0.sku``."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return f"{field}: {first['msg']}" if field else first["msg"]


@dataclass(frozen=True, slots=True)
class Message(Generic[E_co]):
    """An event in its envelope: what agents receive and send."""

    envelope: Envelope
    event: E_co

    def caused(self, event: E) -> Message[E]:
        """An event that follows from this one, see :meth:`Envelope.caused`."""
        return Message(self.envelope.caused(event), event)

    def body(self) -> bytes:
        """The event as it is written into an entry: JSON."""
        return self.event.model_dump_json().encode()


def first_message(
    event: E, *, correlation_id: str | None = None, traceparent: str | None = None
) -> Message[E]:
    """An event that follows from no other event, see :meth:`Envelope.first`."""
    envelope = Envelope.first(event, correlation_id=correlation_id, traceparent=traceparent)
    return Message(envelope, event)
