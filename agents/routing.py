"""Sending events to the partitions of their keys."""

from __future__ import annotations

import faust
from faust.types import TopicT

from models.envelope import Message
from models.events import Event
from redfaust.brokers.partitioner import partition_of


async def send(topic: TopicT, message: Message[Event]) -> None:
    """Send an event on, keyed by what it is about."""
    await topic.send(key=message.event.key, value=message)


def has_own_key(message: Message[Event]) -> bool:
    """Returns True if the current event's key is the id of what the event is about."""
    current = faust.current_event()
    return current is None or current.key == message.event.key


def is_misplaced(message: Message[Event]) -> bool:
    """Returns True if the current event lies where its key does not belong.

    A foreign producer need not know how keys are partitioned. Its event must not be processed
    here, since another worker may own the key's partition.
    """
    if not has_own_key(message):
        return True
    current = faust.current_event()
    if current is None:
        return False
    entry = current.message
    partitions = current.app.consumer.topic_partitions(entry.topic)
    return partitions is not None and entry.partition != partition_of(entry.key, partitions)


async def reroute(topic: TopicT, message: Message[Event]) -> bool:
    """Send a misplaced event on to its own partition; false if it is not misplaced.

    One agent of each topic does so; the others only pass misplaced events over.
    """
    if not is_misplaced(message):
        return False
    await send(topic, message)
    return True
