"""What happens to an event that cannot be processed."""

from __future__ import annotations

import asyncio
import logging

from faust.types import AppT, Message

from connectors.errors import DatabaseUnavailable
from connectors.processing.dead_letters import NewDeadLetter
from connectors.tables.manager import TableManager

logger = logging.getLogger(__name__)

RETRY_EVERY = 1.0
"""Seconds between two attempts to store a dead letter while the database is away."""


async def set_aside(app: AppT, message: Message, error: Exception, *, agent: str) -> None:
    """Store an event that failed as a dead letter; on return it may be acknowledged.

    While the database cannot be reached this waits: the event must not be lost. An application
    without Postgres keeps no dead letters; there the error is logged, as Faust does.
    """
    tables = app.tables
    if not isinstance(tables, TableManager) or tables.dead_letters is None:
        logger.error("%s lost an event of %s", agent, message.topic, exc_info=error)
        return
    letter = NewDeadLetter(
        app=app.conf.id,
        agent=agent,
        topic=message.topic,
        partition=message.partition,
        position=message.offset,
        key=message.key,
        value=message.value,
        headers=tuple(_headers(message)),
        error=error,
        attempts=1,
    )
    while True:
        try:
            number = await tables.dead_letters.add(letter)
        except DatabaseUnavailable as unavailable:
            logger.warning("Dead letter waits for the database: %s", unavailable)
            await asyncio.sleep(RETRY_EVERY)
        else:
            logger.warning(
                "%s could not process an event of %s, which is dead letter %s now: %s: %s",
                agent,
                message.topic,
                number,
                type(error).__name__,
                error,
            )
            return


def _headers(message: Message) -> list[tuple[str, bytes]]:
    headers = message.headers or {}
    pairs = headers.items() if hasattr(headers, "items") else headers
    return [(str(name), value) for name, value in pairs]
