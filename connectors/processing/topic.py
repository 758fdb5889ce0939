"""Topics that decode whole batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, cast

from faust.exceptions import ImproperlyConfigured
from faust.topics import Topic as FaustTopic
from faust.types import EventT, HeadersArg, Message, ProducerT
from mode.utils.queues import ThrowableQueue

from connectors.outbox.outbox import Scheduled, schedule
from connectors.processing.backing import backing_of
from connectors.processing.decoding import Decode, decoder
from connectors.processing.queue import EventQueue, KeyedQueue
from connectors.processing.scope import current_scope
from connectors.transports.broker import Outgoing


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

    async def schedule(
        self,
        *,
        at: datetime,
        key: Any = None,
        value: Any = None,
        headers: HeadersArg | None = None,
    ) -> None:
        """Send an event when its time (with time zone) has come, through the outbox.

        In an agent it belongs to the event that is processed, as :meth:`send` does; elsewhere it
        is stored at once, and DatabaseUnavailable may be raised. Raises ImproperlyConfigured
        where the store is not Postgres.
        """
        if at.tzinfo is None:
            raise ValueError("at needs a time zone, for instance datetime.now(UTC)")
        backing = backing_of(self.app)
        if backing is None:
            raise ImproperlyConfigured("scheduling needs store=postgresql://, and a started app")
        message = self.as_future_message(key=key, value=value, headers=headers).message
        sent = cast("tuple[bytes | None, bytes | None]", (message.key, message.value))
        pairs = cast("dict[str, bytes]", message.headers or {}).items()
        entry = Outgoing(self.get_topic_name(), sent[1], sent[0], tuple(pairs))
        scope = current_scope()
        if scope is not None:
            scope.defer(partial(backing.unit.schedule, entry, at))
            return
        async with backing.database.transaction() as connection:
            await schedule(connection, [Scheduled(entry, at)])

    async def _get_producer(self) -> ProducerT:
        if self.app.producer.started:
            # Faust's waits three times for the event loop, at each event that is sent.
            return self.app.consumer.transactions if self.app.in_transaction else self.app.producer
        return await super()._get_producer()

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
