"""Topics that decode whole batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from faust.topics import Topic as FaustTopic
from faust.types import EventT, Message
from mode.utils.queues import ThrowableQueue

from connectors.processing.decoding import Decode, decoder
from connectors.processing.queue import EventQueue, KeyedQueue


class Undecodable(NamedTuple):
    """A message that its schema refused, and why."""

    message: Message
    error: Exception


class Topic(FaustTopic):
    """Faust's topic, fed in batches."""

    def __init__(
        self, *args: Any, reader: str = "", concurrent: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.reader = reader
        """The agent that reads this instance, by name; empty where it is none."""
        self.concurrent = concurrent
        """Whether several instances of that agent share the events."""
        self._decode: Decode | None = None

    def _clone_args(self) -> Mapping[str, Any]:
        ours = {"reader": self.reader, "concurrent": self.concurrent}
        return {**super()._clone_args(), **ours}

    @property
    def queue(self) -> ThrowableQueue[Any]:
        if self._queue is None:
            kind = KeyedQueue if self.concurrent else EventQueue
            self._queue = kind(flow_control=self.app.flow_control, clear_on_resume=True)
        return self._queue

    def decode_batch(
        self, messages: Iterable[Message]
    ) -> tuple[list[EventT[Any]], list[Undecodable]]:
        """Turn messages into events; those that cannot be are returned beside them."""
        if self._decode is None:
            self._decode = decoder(self.app, self.schema)
        decode = self._decode
        events: list[EventT[Any]] = []
        refused: list[Undecodable] = []
        for message in messages:
            try:
                events.append(decode(message))
            except Exception as error:  # whatever it is, it comes from this message
                refused.append(Undecodable(message, error))
        return events, refused
