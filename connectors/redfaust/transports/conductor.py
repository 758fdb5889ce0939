"""From the consumer to the channels that subscribe."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from faust.transport.conductor import Conductor as FaustConductor
from faust.types import TP, ChannelT, Message, TopicT
from mode import Service
from mode.utils.futures import notify

from redfaust.errors import BrokerUnavailable
from redfaust.processing.dead_letters import addressee_of, excused
from redfaust.processing.decoding import Decoded
from redfaust.processing.failures import dead_letter
from redfaust.processing.log_message import LogMessage
from redfaust.processing.monitoring import only_monitor
from redfaust.processing.offset_tracker import EVERYBODY, Readers
from redfaust.processing.owned_partition import OwnedMessage
from redfaust.processing.parking import ParkedMessage
from redfaust.processing.queue import EventQueue
from redfaust.processing.shared.delivery import readers_of
from redfaust.processing.topic import Topic
from redfaust.tables.prefetch import Delivery, prefetch_of, put_all

if TYPE_CHECKING:
    from redfaust.transports.consumer import Consumer

COLLECT_CHANGES = 0.05
"""Seconds in which changes of the subscription are collected into one. Faust waits 45, since a
rebalance of Kafka stops every worker."""

LOOK_FOR_TOPICS = 1.0
"""Seconds between two looks for new topics, where there are channels with a pattern."""

RETRY_EVERY = 0.5
"""Seconds between two attempts to subscribe while the broker is away."""


class Conductor(FaustConductor):
    """Faust's conductor, moving batches instead of messages."""

    _subscribed = False

    def add(self, topic: TopicT) -> None:
        """Register a channel. One more for a topic that is read already gets what comes
        next."""
        super().add(topic)
        if topic.pattern:
            self._flag_changes()
        elif self._subscribed and not self._topic_contain_unsubscribed_topics(topic):
            self._update_tp_index(self.app.consumer.assignment())

    @Service.task
    async def _subscriber(self) -> None:
        """Subscribe, and again whenever channels have changed.

        Faust's forgets a change that comes while partitions move, or while it subscribes.
        """
        await self.app.agents.wait_until_agents_started()
        await self.app.tables.wait_until_tables_registered()
        changed = self._subscription_changed = asyncio.Event()
        while not self.should_stop:
            await self._subscribe()
            await changed.wait()
            await self.sleep(COLLECT_CHANGES)

    async def _subscribe(self) -> None:
        assert self._subscription_changed is not None
        while not self.should_stop:
            self._subscription_changed.clear()
            try:
                await self.app.consumer.subscribe(await self._update_indices())
            except BrokerUnavailable as error:
                self.log.warning("Subscribing waits for the broker: %s", error)
                await self.sleep(RETRY_EVERY)
            else:
                self._subscribed = True
                notify(self._subscription_done)
                return

    # -- topics by pattern, of which Faust takes no notice -----------------------------------

    async def _update_indices(self) -> Iterable[str]:
        await super()._update_indices()
        index: dict[str, set[TopicT]] = self._topic_name_index  # type: ignore[assignment]
        matching = await self._matching_topics()
        for channel in self._topics:
            if channel.pattern:
                for name in filter(channel.pattern.match, matching):
                    index[name].add(channel)
                    if channel.acks:
                        self._acking_topics.add(name)
        return self._topic_name_index

    def _update_tp_index(self, assigned: set[TP]) -> None:
        super()._update_tp_index(assigned)
        for tp in assigned:
            for channel in self._topic_name_index.get(tp.topic, ()):
                if channel.pattern:
                    self._tp_index[tp].add(channel)

    async def _matching_topics(self) -> set[str]:
        """Topics that a channel's pattern matches, but for what this application keeps itself."""
        patterns = [channel.pattern for channel in self._topics if channel.pattern]
        if not patterns:
            return set()
        consumer = cast("Consumer", self.app.consumer)
        own = {self.app.conf.reply_to, *self.app.tables.changelog_topics}
        own |= consumer.randomly_assigned_topics
        topics = (await consumer.broker.topics()).keys() - own
        return {name for name in topics if any(pattern.match(name) for pattern in patterns)}

    @Service.task
    async def _look_for_topics(self) -> None:
        """Subscribe to new topics that match a pattern."""
        while not self.should_stop:
            await self.sleep(LOOK_FOR_TOPICS)
            try:
                matching = await self._matching_topics()
            except BrokerUnavailable:
                continue  # who reads says so
            if self._subscribed and not matching <= self._topic_name_index.keys():
                self._flag_changes()

    async def on_client_only_start(self) -> None:
        """Begin to read, as a client that is no member of the group.

        Faust stops the flow before it calls this, which ends what the subscription has begun.
        """
        consumer = cast("Consumer", self.app.consumer)
        await consumer.rebalance.listen(consumer.assignment())

    def waiting(self, tp: TP) -> int:
        """How many events wait for that agent of a partition for which most do."""
        return max(
            (
                len(channel.queue.buffered)
                for channel in self._tp_index.get(tp, ())
                if isinstance(channel.queue, EventQueue)
            ),
            default=0,
        )

    async def deliver(
        self, tp: TP, messages: Sequence[Message], done_by: Mapping[int, Readers]
    ) -> None:
        """Hand a batch of one partition to every channel that subscribes to it.

        Channels with the same types share the decoded events. A message that a channel cannot
        decode is set aside for that channel; the others get it all the same. ``done_by`` names
        the agents that have finished a message before.
        """
        channels = [cast(Topic, channel) for channel in self._tp_index.get(tp, ())]
        done_by = self._with_excused(channels, messages, done_by)
        if messages and (monitor := only_monitor(self.app)) is not None:
            monitor.messages_received_total += len(messages)
            monitor.messages_received_by_topic[tp.topic] += len(messages)
            monitor.tp_read_offsets[tp] = messages[-1].offset
        # Before anything can finish one, so that it does not count as done too early.
        for message in messages:
            message.refcount = len(channels)
        if done_by or not channels:
            self._excuse(messages, channels, done_by)
        deliveries: list[Delivery] = []
        decoded: dict[Any, Decoded] = {}
        for channel in channels:
            kind = (channel.schema, channel.key_type, channel.value_type)
            if kind not in decoded:
                decoded[kind] = channel.decode_batch(messages)
            events, refused = decoded[kind]
            if done_by:
                reader = channel.reader
                events = [e for e in events if reader not in done_by.get(e.message.offset, ())]
                refused = [r for r in refused if reader not in done_by.get(r.message.offset, ())]
            deliveries.append(Delivery(events, partial(self._put, channel)))
            for message, error in refused:
                dead_letter(self.app, message, error, agent=channel.reader or str(channel))
                self._settle(message, channel)
        await self._hand_over(tp, deliveries)

    def _excuse(
        self,
        messages: Sequence[Message],
        channels: Sequence[Topic],
        done_by: Mapping[int, Readers],
    ) -> None:
        """Have nobody waited for who has finished a message before."""
        for message in messages:
            done = done_by.get(message.offset, EVERYBODY)
            message.refcount = sum(channel.reader not in done for channel in channels)
            if not message.refcount:
                self.app.consumer.ack(message)

    def _with_excused(
        self,
        channels: Sequence[Topic],
        messages: Sequence[Message],
        done_by: Mapping[int, Readers],
    ) -> Mapping[int, Readers]:
        """``done_by``, with the agents for which a message was not replayed."""
        addressees = {
            message.offset: addressee
            for message in cast("Sequence[LogMessage]", messages)
            if message.headers and (addressee := addressee_of(message)) is not None
        }
        if not addressees:
            return done_by
        readers = {channel.reader for channel in channels}
        readers |= readers_of(self.app, messages[0].topic)
        found = {
            offset: done_by.get(offset, EVERYBODY).union(others)
            for offset, addressee in addressees.items()
            if (others := excused(self.app.conf.id, readers, addressee))
        }
        return {**done_by, **found}

    async def deliver_again(self, message: ParkedMessage, reader: str) -> bool:
        """Hand a message to one agent once more; false if there is none of that name here."""
        for candidate in self._tp_index.get(message.tp, ()):
            channel = cast(Topic, candidate)
            if channel.reader == reader:
                events, refused = channel.decode_batch([message])
                put = partial(self._put_first, channel)
                await self._hand_over(message.tp, [Delivery(events, put)])
                for _, error in refused:
                    dead_letter(self.app, message, error, agent=reader, attempts=message.attempts)
                    self._settle(message, channel)
                return True
        return False

    def _settle(self, message: Message, channel: Topic) -> None:
        consumer = cast("Consumer", self.app.consumer)
        if not cast(OwnedMessage, message).finish():
            consumer.finished_by(message, channel.reader)
        consumer.note_progress()

    async def _hand_over(self, tp: TP, deliveries: Sequence[Delivery]) -> None:
        prefetch = prefetch_of(self.app)
        await (prefetch.deliver(tp, deliveries) if prefetch else put_all(deliveries))

    @staticmethod
    async def _put(channel: ChannelT[Any], events: Sequence[Any]) -> None:
        if isinstance(channel.queue, EventQueue):
            channel.queue.put_batch(events)
            return
        for event in events:
            await channel.queue.put(event)

    @staticmethod
    async def _put_first(channel: Topic, events: Sequence[Any]) -> None:
        cast(EventQueue, channel.queue).put_first(events)
