"""From the consumer to the channels that subscribe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from faust.transport.conductor import Conductor as FaustConductor
from faust.types import TP, ChannelT, Message

from connectors.processing.failures import set_aside
from connectors.processing.queue import EventQueue
from connectors.processing.topic import Topic, Undecodable

COLLECT_CHANGES = 0.05
"""Seconds in which changes of the subscription are collected into one. Faust waits 45, since a
rebalance of Kafka stops every worker."""


class Conductor(FaustConductor):
    """Faust's conductor, moving batches instead of messages."""

    _resubscribe_sleep_lock_seconds = COLLECT_CHANGES

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
