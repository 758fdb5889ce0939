"""Topics that decode whole batches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from datetime import datetime
from functools import cached_property, partial
from typing import Any, cast

from faust import Schema
from faust.exceptions import ImproperlyConfigured
from faust.topics import Topic as FaustTopic
from faust.types import ChannelT, HeadersArg, Message, ProducerT, RecordMetadata, SchemaT
from mode.utils.queues import FlowControlEvent, ThrowableQueue
from pydantic import ValidationError

from redfaust.brokers.broker import Headers, Outgoing
from redfaust.brokers.sendable import check_topic, checked, checked_time
from redfaust.outbox.outbox import Scheduled
from redfaust.processing import topic_config
from redfaust.processing.consumer_handle import ConsumerHandle
from redfaust.processing.declarations import check_topic_options
from redfaust.processing.decoding import Decode, Decoded, decoder
from redfaust.processing.encoding import Encoder, encoder
from redfaust.processing.monitoring import only_monitor
from redfaust.processing.producer import Producer, as_headers
from redfaust.processing.queue import EventQueue, KeyedQueue
from redfaust.processing.scope import current_scope, outside_of_events
from redfaust.processing.state_backend import state_backend_of
from redfaust.processing.typed_values import typed_value


class Topic(FaustTopic):
    """Faust's topic, fed in batches."""

    def __init__(
        self,
        *args: Any,
        reader: str = "",
        concurrent: bool = False,
        shared: bool = False,
        **kwargs: Any,
    ) -> None:
        check_topic_options(
            ", ".join(kwargs.get("topics") or ()),
            partitions=kwargs.get("partitions"),
            retention=kwargs.get("retention"),
            config=kwargs.get("config") or {},
        )
        super().__init__(*args, **kwargs)
        for name in self.topics:
            check_topic(name)
        said = topic_config.retention_of(
            retention=self.retention,
            compacting=self.compacting,
            deleting=self.deleting,
            config=self.config,
        )
        topic_config.note(self.app, self.topics, self.partitions, said, self.config or {})
        self.reader = reader
        """The agent that reads this instance, by name; empty where it is none."""
        self.concurrent = concurrent
        """Whether several instances of that agent share the events."""
        self.shared = shared
        """Whether they are delivered to one of many, and not by the conductor."""
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
        where the store is not Postgres, and ValueError for a time that is none.
        """
        due_at = checked_time("at", at)
        state_backend = state_backend_of(self.app)
        if state_backend is None:
            raise ImproperlyConfigured("scheduling needs store=postgresql://, and a started app")
        message = self.as_future_message(key=key, value=value, headers=headers).message
        sent = cast("tuple[bytes | None, bytes | None]", (message.key, message.value))
        topic, pairs = self.get_topic_name(), as_headers(message.headers)
        entry = checked(Outgoing(topic, sent[1], sent[0], pairs))
        scope = current_scope()
        if scope is not None:
            outlet = scope.outlet or state_backend.unit
            scope.defer(partial(outlet.schedule, entry, due_at, scope.causes))
            return
        await state_backend.schedule([Scheduled(entry, due_at)])

    async def send(
        self,
        *,
        key: Any = None,
        value: Any = None,
        partition: int | None = None,
        timestamp: float | None = None,
        headers: HeadersArg | None = None,
        force: bool = False,
        **options: Any,
    ) -> Awaitable[RecordMetadata]:
        """As Faust's, but on a shorter way.

        Faust's calls twenty functions on the way, for what is seldom there: other sensors than
        the monitor, callbacks, serializers for a single event. With ``force`` it leaves at once, at
        least once, also where an event is processed exactly once.
        """
        if force and current_scope() is not None:
            with outside_of_events():
                return await self.send(
                    key=key,
                    value=value,
                    partition=partition,
                    timestamp=timestamp,
                    headers=headers,
                    force=True,
                    **options,
                )
        producer = self.app.producer
        if options or not producer.started or not self._goes_short_ways:
            more = {"partition": partition, "timestamp": timestamp, "headers": headers, **options}
            more["force"] = force
            return await super().send(key=key, value=value, **more)
        final_key, final_value, final_headers = self._encode(key, value, headers)
        topic = self.get_topic_name()
        entry = Outgoing(topic, final_value, final_key, final_headers, partition, timestamp)
        monitor = self.app.monitor
        monitor.messages_sent += 1
        monitor.messages_sent_by_topic[topic] += 1
        return await cast(Producer, producer).send_entry(entry, monitor.time())

    def send_row(
        self, key: Any, value: Any, partition: int
    ) -> asyncio.Future[RecordMetadata] | None:
        """As :meth:`send_soon`, for a table, which needs no promise that knows what it is of.

        ``None`` where only that leads there.
        """
        producer = cast(Producer, self.app.producer)
        if not self._goes_short_ways or not producer.sends_at_once:
            return None
        final_key, final_value, headers = self._encode(key, value, None)
        topic = self.get_topic_name()
        monitor = self.app.monitor
        monitor.messages_sent += 1
        monitor.messages_sent_by_topic[topic] += 1
        return producer.send_entry_soon(
            Outgoing(topic, final_value, final_key, headers, partition), monitor.time()
        )

    @cached_property
    def _goes_short_ways(self) -> bool:
        ours = isinstance(self.app.producer, Producer)
        watched = only_monitor(self.app) is None
        return ours and not watched and not self.app.conf.stream_publish_on_commit

    @cached_property
    def _encoder(self) -> Encoder:
        return encoder(self.app, self.schema)

    def _encode(
        self, key: Any, value: Any, headers: HeadersArg | None
    ) -> tuple[bytes | None, bytes | None, Headers]:
        added: Any = {} if headers is None else self.prepare_headers(headers)
        final_key, final_value = None, self._encoder.value(value)
        if key is not None and (final_key := self._encoder.key(key)) is None:
            final_key, added = self.prepare_key(key, None, None, added)
        if final_value is None:
            final_value, added = self.prepare_value(value, None, None, added)
        return final_key, final_value, as_headers(added)

    def prepare_value(
        self,
        value: Any,
        value_serializer: Any,
        schema: SchemaT[Any, Any] | None = None,
        headers: Any = None,
    ) -> tuple[Any, Any]:
        """As Faust's, with nothing for ``None`` where the type does not have it: so compaction
        forgets the key, as it would not for the text ``null``."""
        if value is None and schema is None and self._none_deletes:
            return None, headers
        return super().prepare_value(value, value_serializer, schema, headers)

    @cached_property
    def _none_deletes(self) -> bool:
        own_schema: Any = type(self.schema)
        if own_schema.dumps_value is not Schema.dumps_value:
            return False
        if (typed := typed_value(self.schema.value_type)) is None:
            return True
        try:
            typed.from_data(None)
        except ValidationError:
            return True
        return False

    async def _get_producer(self) -> ProducerT:
        if self.app.producer.started:
            # Faust's waits three times for the event loop, at each event that is sent.
            return self.app.consumer.transactions if self.app.in_transaction else self.app.producer
        return await super()._get_producer()

    def _clone_args(self) -> Mapping[str, Any]:
        ours = {"reader": self.reader, "concurrent": self.concurrent, "shared": self.shared}
        return {**super()._clone_args(), **ours}

    def __aiter__(self) -> ChannelT[Any]:
        if self.shared and not self.is_iterator:
            return self.clone(is_iterator=True)  # the conductor is not to know of it
        return super().__aiter__()

    @property
    def queue(self) -> ThrowableQueue[Any]:
        if self._queue is None and self.shared:
            # Partitions that move are none of its business.
            self._queue = EventQueue(flow_control=FlowControlEvent(initially_suspended=False))
        if self._queue is None:
            kind = KeyedQueue if self.concurrent else EventQueue
            self._queue = kind(
                flow_control=self.app.flow_control, clear_on_resume=True, on_empty=self._read_on
            )
        return self._queue

    def _read_on(self) -> None:
        cast(ConsumerHandle, self.app.consumer).read_on()

    def share(self, queue: EventQueue) -> None:
        """Have this topic's events put into the queue of another one."""
        self._queue = queue

    def decode_batch(self, messages: Iterable[Message]) -> Decoded:
        """Turn messages into events; those that cannot be are returned beside them."""
        if self._decode is None:
            self._decode = decoder(self.app, self.schema)
        return self._decode(messages)
