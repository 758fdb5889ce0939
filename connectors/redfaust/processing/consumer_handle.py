"""What processing asks of the consumer that reads its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from faust.types import Message

if TYPE_CHECKING:
    from redfaust.processing.event_stream import EventStream


class ConsumerHandle(Protocol):
    """See :class:`~redfaust.transports.consumer.Consumer`, which does it."""

    progress_noted: bool

    @property
    def member(self) -> str: ...
    def read_by(self, stream: EventStream[Any]) -> None: ...
    def finished_by(self, message: Message, reader: str) -> None: ...
    def note_progress(self) -> None: ...
    def read_on(self) -> None: ...
