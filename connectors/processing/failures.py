"""What happens to an event that cannot be processed."""

from __future__ import annotations

import asyncio
import logging

from faust.types import AppT, Message

from connectors.errors import DatabaseUnavailable
from connectors.processing.dead_letters import NewDeadLetter, letter_about
from connectors.tables.manager import TableManager
from connectors.transports.broker import Outgoing

logger = logging.getLogger(__name__)

RETRY_EVERY = 1.0
"""Seconds between two attempts to store a dead letter while the database is away."""


async def set_aside(app: AppT, message: Message, error: Exception, *, agent: str) -> None:
    """Store an event that failed as a dead letter; on return it may be acknowledged.

    While the database cannot be reached this waits: the event must not be lost. An application
    without Postgres keeps no dead letters; there the error is logged, as Faust does.
    """
    letter = letter_about(app, message, error, agent=agent)
    await _store(app, letter, f"{agent} could not process")


async def set_aside_unsent(app: AppT, entry: Outgoing, error: Exception) -> None:
    """Store an event that the broker refused to take; otherwise as :func:`set_aside`."""
    letter = NewDeadLetter(
        app=app.conf.id,
        agent=None,
        topic=entry.topic,
        partition=entry.partition or 0,
        position=0,  # it never had one
        key=entry.key,
        value=entry.value,
        headers=entry.headers,
        error=error,
        attempts=1,
    )
    await _store(app, letter, "The broker did not take")


async def _store(app: AppT, letter: NewDeadLetter, what_failed: str) -> None:
    tables = app.tables
    if not isinstance(tables, TableManager) or tables.dead_letters is None:
        logger.error("%s an event of %s: lost", what_failed, letter.topic, exc_info=letter.error)
        return
    while True:
        try:
            number = await tables.dead_letters.add(letter)
        except DatabaseUnavailable as unavailable:
            logger.warning("Dead letter waits for the database: %s", unavailable)
            await asyncio.sleep(RETRY_EVERY)
        else:
            logger.warning(
                "%s an event of %s, which is dead letter %s now: %s: %s",
                what_failed,
                letter.topic,
                number,
                type(letter.error).__name__,
                letter.error,
            )
            return
