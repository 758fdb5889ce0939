"""Faust's producer, for any broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, cast

from faust.exceptions import ProducerSendError
from faust.transport.producer import Producer as FaustProducer
from faust.types import TP, FutureMessage, HeadersArg, RecordMetadata
from faust.types.enums import ProcessingGuarantee
from mode import Seconds, Service

from redfaust.brokers import sendable
from redfaust.brokers.broker import (
    Appended,
    Broker,
    Headers,
    Outgoing,
    PartlyRefused,
    TopicSpec,
)
from redfaust.brokers.partitioner import partition_of
from redfaust.brokers.sendable import check_partition, checked
from redfaust.errors import BrokerError, BrokerUnavailable
from redfaust.processing import topic_config
from redfaust.processing.failures import dead_letter_refused
from redfaust.processing.record_accumulator import RecordAccumulator, Sent
from redfaust.processing.scope import Scope, current_scope
from redfaust.processing.state_backend import Backed, backed

FLUSH_FOR = 2.0
"""Seconds for everything to be appended when the application stops. The events that sent what
is left over are not committed, and send it again."""

LARGE = 1 << 20
"""Bytes of a key or value, beyond which the size of the whole is looked at."""

REMEMBERED = 10_000
"""Names of topics of which it is remembered that they are good."""

RETRY_EVERY = 0.5
"""Seconds between two attempts."""


class Producer(FaustProducer):
    """Collects what is sent while the last batch is on its way, then appends it in one go.

    What an event sends where ``processing_guarantee`` is ``exactly_once`` is not sent from here:
    it waits in the event's scope, is stored by the commit and published behind it. Everything
    else is sent at least once: when the broker goes away in the middle of a batch, the batch is
    repeated until it is there. An entry that the broker refuses for good becomes a dead letter.
    """

    mundane_level = "debug"

    def __post_init__(self) -> None:
        self._accumulator = RecordAccumulator(self._append, self.app.monitor)
        self._stop_by: float | None = None
        self._partitions: dict[str, int] = {}
        self._good_topics: set[str] = set()
        """Names that were checked."""

    @property
    def broker(self) -> Broker:
        return cast("Broker", self.transport.broker)  # type: ignore[attr-defined]

    async def on_start(self) -> None:
        self._accumulator.begin()
        # Faust does so when a client or worker is started, which may be between the time that an
        # event is sent and that it is appended: then the monitor is asked for what it never saw.
        self.app.sensors.add(self.app.monitor)
        try:
            await self.broker.open()
        except BrokerError:
            if not self.app.should_stop:  # otherwise it was closed meanwhile
                raise
        await super().on_start()

    async def on_stop(self) -> None:
        await self.flush()

    async def on_shutdown(self) -> None:
        # Faust's commands stop the producer first, while a client's consumer reads on.
        if not self.app.client_only or self.app.should_stop:
            await self.broker.close()

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: HeadersArg | None,
        *,
        transactional_id: str | None = None,  # noqa: ARG002 - Kafka's
    ) -> Awaitable[RecordMetadata]:
        """Schedule an entry; the awaitable that is returned is done when it is appended.

        Of an entry that is sent with the commit of its event it is done at once, and the offset is
        -1: that it has none yet.
        """
        return await self.send_entry(
            Outgoing(topic, value, key, as_headers(headers), partition, timestamp)
        )

    async def send_entry(
        self, entry: Outgoing, since: float | None = None
    ) -> asyncio.Future[RecordMetadata]:
        """As :meth:`send`. ``since`` is when it was sent, for the monitor."""
        entry = self._accept(entry)
        if entry.partition is not None:
            await self._check_partition(entry.topic, entry.partition)
        if (scope := self._scope()) is not None:
            return self._done(self._send_with_commit(scope, entry))
        return await self._accumulator.send(entry, since)

    def send_entry_soon(
        self, entry: Outgoing, since: float | None = None
    ) -> asyncio.Future[RecordMetadata]:
        """As :meth:`send_entry`, for who cannot wait."""
        entry = self._accept(entry)
        if entry.partition is not None:
            check_partition(entry.topic, entry.partition, self._known_partitions(entry.topic))
        if (scope := self._scope()) is not None:
            return self._done(self._send_with_commit(scope, entry))
        return self._accumulator.send_soon(entry, since)

    def _done(self, metadata: RecordMetadata) -> asyncio.Future[RecordMetadata]:
        future: asyncio.Future[RecordMetadata] = asyncio.get_running_loop().create_future()
        future.set_result(metadata)
        return future

    @property
    def sends_at_once(self) -> bool:
        """Whether what is sent soon waits in no other buffer, as it does before the start."""
        return self.started and self.buffer.pending.empty()

    @property
    def is_full(self) -> bool:
        """Whether too much is sent and not appended. Then nothing more is to be read: who cannot
        wait sends on."""
        return self._accumulator.is_full

    async def has_room(self) -> None:
        """Wait while it is full."""
        await self._accumulator.has_room()

    def send_soon(self, fut: FutureMessage) -> None:
        scope, message = self._scope(), fut.message
        channel: Any = message.channel
        topic = channel.get_topic_name()
        key, value = cast("tuple[bytes | None, bytes | None]", (message.key, message.value))
        headers = as_headers(message.headers)
        entry = Outgoing(topic, value, key, headers, message.partition, message.timestamp)
        entry = self._accept(entry)
        if entry.partition is not None:
            check_partition(topic, entry.partition, self._known_partitions(topic))
        if scope is None and not self.sends_at_once:
            super().send_soon(fut)
            return
        if scope is not None:
            fut.set_result(self._send_with_commit(scope, entry))
            return
        sizes = len(key or b""), len(value or b"")
        state = self.app.sensors.on_send_initiated(self, topic, message, *sizes)
        self._accumulator.send_soon(entry).add_done_callback(
            partial(channel._on_published, message=fut, producer=self, state=state)
        )

    def _accept(self, entry: Outgoing) -> Outgoing:
        """An entry that brokers and Postgres take, as far as that can be told from itself; with the
        headers that others add to all that is sent, as Faust's LiveCheck does.

        All that is sent comes by here. Raises ValueError and TypeError.
        """
        topic, value, key, headers, _, timestamp = entry
        if (
            topic not in self._good_topics
            or headers
            or timestamp is not None
            or (value is not None and (type(value) is not bytes or len(value) > LARGE))
            or (key is not None and (type(key) is not bytes or len(key) > LARGE))
        ):  # what nearly all are not, so that checking them costs no call
            entry = checked(entry)
            if len(self._good_topics) == REMEMBERED:
                self._good_topics.clear()
            self._good_topics.add(topic)
        signal: Any = self.app.on_produce_message
        # Who has listened once leaves an empty set behind, for all applications of the process.
        if not (signal._receivers or any(signal._filter_receivers.values())):
            return entry
        extended = list(entry.headers)
        signal.send(
            key=entry.key,
            value=entry.value,
            partition=entry.partition,
            timestamp=entry.timestamp,
            headers=extended,
        )
        return entry._replace(headers=as_headers(extended))

    def _known_partitions(self, topic: str) -> int | None:
        known = self._partitions.get(topic)
        if known is None and (consumer := cast("Any", self.app)._consumer) is not None:
            known = consumer.topic_partitions(topic)
        return known

    async def _check_partition(self, topic: str, partition: int) -> None:
        """Raises ValueError for a partition that a topic has not. While the broker is away that is
        not known, and the broker refuses the entry later."""
        check_partition(topic, partition, None)
        known = self._known_partitions(topic)
        if known is None or partition >= known:
            with suppress(BrokerUnavailable):
                await topic_config.declare(self.app, self.broker)
                partitions = await self.broker.topics()
                # One that is not there yet is made by the first entry.
                known = partitions.get(topic) or self.app.conf.topic_partitions
                self._partitions[topic] = known
        check_partition(topic, partition, known)

    def _scope(self) -> Scope | None:
        """The scope with which an event is to be sent; ``None``: it is to be sent at once."""
        if not self._exactly_once or (scope := current_scope()) is None:
            return None
        return None if self._backed.state_backend is None else scope

    @cached_property
    def _backed(self) -> Backed:
        return backed(self.app)

    @cached_property
    def _exactly_once(self) -> bool:
        guarantee: object = self.app.conf.processing_guarantee
        return guarantee is ProcessingGuarantee.EXACTLY_ONCE

    def _send_with_commit(self, scope: Scope, entry: Outgoing) -> RecordMetadata:
        state_backend = self._backed.state_backend
        assert state_backend is not None
        outlet = scope.outlet or state_backend.unit
        scope.defer(partial(outlet.send, scope.source_of(entry.key), entry, scope.causes))
        return _not_there_yet(entry)

    async def send_and_wait(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: HeadersArg | None,
        *,
        transactional_id: str | None = None,
    ) -> RecordMetadata:
        """Append an entry; returns where it came to lie."""
        return await (
            await self.send(
                topic,
                key,
                value,
                partition,
                timestamp,
                headers,
                transactional_id=transactional_id,
            )
        )

    async def flush(self) -> None:
        """Wait until what was sent up to now is appended; when stopping, within bounds."""
        if not await self.has_sent():
            sending = self._accumulator
            self.log.warning("%s events are not sent", sending.accepted - sending.done)

    async def has_sent(self) -> bool:
        """Wait as :meth:`flush` does; whether everything is appended."""
        await self.buffer.flush()
        try:
            async with asyncio.timeout_at(self._deadline()):
                await self._accumulator.sent()
        except TimeoutError:
            return False
        return True

    def _deadline(self) -> float | None:
        if not (self.should_stop or self.app.should_stop):
            return None
        if self._stop_by is None:
            self._stop_by = asyncio.get_running_loop().time() + FLUSH_FOR
        return self._stop_by

    @Service.task
    async def _sender(self) -> None:
        # Until it is cancelled, not until the service should stop: on_stop flushes through it.
        await self._accumulator.run()

    async def _append(self, entries: Sequence[Outgoing]) -> Sequence[Appended | Exception]:
        outcomes = await self._appended_or_refused(entries)
        return [
            await self._refused(entry, outcome) if isinstance(outcome, BrokerError) else outcome
            for entry, outcome in zip(entries, outcomes, strict=True)
        ]

    async def _refused(self, entry: Outgoing, error: BrokerError) -> ProducerSendError:
        await dead_letter_refused(self.app, entry, error)
        failure = ProducerSendError(f"An event for {entry.topic} was refused: {error}")
        failure.__cause__ = error
        return failure

    async def _appended_or_refused(
        self, entries: Sequence[Outgoing]
    ) -> Sequence[Appended | BrokerError]:
        while True:
            try:
                await topic_config.declare(self.app, self.broker)
                return await self.broker.append(entries)
            except PartlyRefused as refused:
                return refused.outcomes
            except BrokerUnavailable as error:
                self._accumulator.broker_is_away()
                self.log.warning("Sending waits for the broker: %s", error)
            except BrokerError as error:
                self.log.error("Sending waits for the broker to be mended: %s", error)
            await asyncio.sleep(RETRY_EVERY)

    async def create_topic(
        self,
        topic: str,
        partitions: int,
        replication: int,  # noqa: ARG002 - the server's own affair
        *,
        config: Mapping[str, Any] | None = None,
        timeout: Seconds = 1000.0,  # noqa: ARG002 - bounded by the client
        retention: Seconds | None = None,
        compacting: bool | None = None,
        deleting: bool | None = None,
        ensure_created: bool = False,  # noqa: ARG002 - returns only when it is
    ) -> None:
        """Declare a topic."""
        kept = topic_config.retention_of(
            retention=retention, compacting=compacting, deleting=deleting, config=config
        )
        spec = TopicSpec(topic, partitions, kept)
        self._partitions[topic] = await self.broker.create_topic(spec)

    def key_partition(self, topic: str, key: bytes) -> TP:
        """The partition that a key belongs to."""
        partitions = self._partitions.get(topic, self.app.conf.topic_partitions)
        return TP(topic, partition_of(key, partitions))

    def supports_headers(self) -> bool:
        return True


def _not_there_yet(entry: Outgoing) -> Sent:
    tp = TP(entry.topic, -1 if entry.partition is None else entry.partition)
    return Sent(tp.topic, tp.partition, tp, -1, entry.timestamp, None)


def as_headers(headers: HeadersArg | None) -> Headers:
    """Headers as brokers take them. Raises ValueError and TypeError."""
    if not headers:
        return ()
    return sendable.as_headers(headers.items() if isinstance(headers, Mapping) else headers)
