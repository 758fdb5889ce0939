"""Topics that decode whole batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from faust.topics import Topic as FaustTopic
from faust.types import EventT, Message
from mode.utils.queues import ThrowableQueue

from connectors.processing.queue import EventQueue


class Undecodable(NamedTuple):
    """A message that its schema refused, and why."""

    message: Message
    error: Exception


class Topic(FaustTopic):
    """Faust's topic, fed in batches."""

    @property
    def queue(self) -> ThrowableQueue[Any]:
        if self._queue is None:
            self._queue = EventQueue(flow_control=self.app.flow_control, clear_on_resume=True)
        return self._queue

    def decode_batch(
        self, messages: Iterable[Message]
    ) -> tuple[list[EventT[Any]], list[Undecodable]]:
        """Turn messages into events; those that cannot be are returned beside them."""
        app, schema = self.app, self.schema
        events: list[EventT[Any]] = []
        refused: list[Undecodable] = []
        for message in messages:
            try:
                key = schema.loads_key(app, message)
                if message.value is None and schema.allow_empty:
                    value = None
                else:
                    value = schema.loads_value(app, message)
            except Exception as error:  # whatever it is, it comes from this message
                refused.append(Undecodable(message, error))
            else:
                events.append(app.create_event(key, value, message.headers, message))
        return events, refused
