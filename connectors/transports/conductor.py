"""From the consumer to the channels that subscribe."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from faust.transport.conductor import Conductor as FaustConductor
from faust.types import TP, ChannelT, Message, TopicT
from mode import Service
from mode.utils.futures import notify

from connectors.errors import BrokerUnavailable
from connectors.processing.failures import set_aside
from connectors.processing.queue import EventQueue
from connectors.processing.topic import Topic, Undecodable

COLLECT_CHANGES = 0.05
"""Seconds in which changes of the subscription are collected into one. Faust waits 45, since a
rebalance of Kafka stops every worker."""

RETRY_EVERY = 0.5
"""Seconds between two attempts to subscribe while the broker is away."""


class Conductor(FaustConductor):
    """Faust's conductor, moving batches instead of messages."""

    _subscribed = False

    def add(self, topic: TopicT) -> None:
        """Register a channel. One more for a topic that is read already gets what comes next."""
        super().add(topic)
        if self._subscribed and not self._topic_contain_unsubscribed_topics(topic):
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

    async def deliver(self, tp: TP, messages: Sequence[Message]) -> None:
        """Hand a batch of one partition to every channel that subscribes to it.

        Channels with the same types share the decoded events. A message that a channel cannot
        decode is set aside for that channel; the others get it all the same.
        """
        channels = list(self._tp_index.get(tp, ()))
        monitor = self.app.monitor
        monitor.messages_received_total += len(messages)
        monitor.messages_received_by_topic[tp.topic] += len(messages)
        for message in messages:
            # Before anything can finish it, so that it does not count as done too early.
            message.incref(len(channels))
        decoded: dict[Any, tuple[list[Any], list[Undecodable]]] = {}
        for channel in channels:
            topic = cast(Topic, channel)
            kind = (topic.schema, topic.key_type, topic.value_type)
            if kind not in decoded:
                decoded[kind] = topic.decode_batch(messages)
            events, refused = decoded[kind]
            await self._put(topic, events)
            for message, error in refused:
                await set_aside(self.app, message, error, agent=str(topic))
                message.ack(self.app.consumer)
        if not channels:
            for message in messages:
                self.app.consumer.ack(message)

    @staticmethod
    async def _put(channel: ChannelT[Any], events: Sequence[Any]) -> None:
        if isinstance(channel.queue, EventQueue):
            channel.queue.put_batch(events)
            return
        for event in events:
            await channel.queue.put(event)
