"""Passing over entries that aiokafka cannot read.

By Kafka's protocol the name of a header is a text, but servers do not look at it, and clients in
other languages may write anything. aiokafka raises UnicodeDecodeError where it comes to such an
entry, each time, and has lost by then what it had fetched before it. The bytes of the entry are not
to be had from it either. So it is passed over, and named in the log.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from typing import Any

from aiokafka import TopicPartition

from redfaust.brokers.kafka.clients import FETCH_WAIT

logger = logging.getLogger(__name__)

UNREADABLE = UnicodeDecodeError


async def readable(
    consumer: Any, tp: TopicPartition, start: int, end: int
) -> AsyncGenerator[tuple[int, Any], None]:
    """The entries from ``start`` to ``end``, one by one, of a partition that is assigned: each with
    the position behind it, and ``None`` in the place of one that is passed over."""
    consumer.seek(tp, start)
    while (position := await consumer.position(tp)) < end:
        try:
            batches = await consumer.getmany(tp, timeout_ms=round(FETCH_WAIT * 1000), max_records=1)
        except UNREADABLE:
            logger.error(
                "Passing over entry %s of partition %s of %s: the name of a header is no text in "
                "UTF-8. Its producer has to send it again.",
                position,
                tp.partition,
                tp.topic,
            )
            consumer.seek(tp, position + 1)
            yield position + 1, None
            continue
        for each in batches.get(tp, ()):
            if each.offset < end:
                yield each.offset + 1, each
