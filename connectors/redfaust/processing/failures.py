"""What happens to an event that cannot be processed."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol, runtime_checkable

from faust.types import AppT, Message

from redfaust.brokers.broker import Outgoing
from redfaust.errors import DatabaseError
from redfaust.processing.dead_letters import letter_about, line_of
from redfaust.processing.parking import ParkedMessage
from redfaust.processing.rejected import rejected_letter
from redfaust.processing.shared.message import SharedMessage
from redfaust.processing.state_backend import state_backend_of

RETRY_EVERY = 1.0
"""Seconds between two attempts to store a dead letter while the database is away."""

logger = logging.getLogger(__name__)


@runtime_checkable
class _Counting(Protocol):
    """An agent that counts the events that it could not process."""

    failed_total: int


def dead_letter(
    app: AppT, message: Message, error: Exception, *, agent: str, attempts: int = 1
) -> None:
    """Make an event that failed a dead letter; on return it may be acknowledged.

    It is stored by the commit that moves the position behind the event: once, and not without.
    An application without Postgres keeps no dead letters; there the error is logged, as Faust does.
    """
    if isinstance(failing := app.agents.get(agent), _Counting):
        failing.failed_total += 1
    state_backend = state_backend_of(app)
    if state_backend is None:
        logger.error(
            "%s lost the event %s of %s %s. With store=postgresql://… it would be a dead letter",
            agent,
            message.offset,
            message.topic,
            message.partition,
            exc_info=error,
        )
        return
    logger.warning(
        "%s could not process an event of %s, which becomes a dead letter: %s",
        agent,
        message.topic,
        line_of(error),
    )
    letter = letter_about(app, message, error, agent=agent, attempts=attempts)
    if isinstance(message, SharedMessage):
        message.effects.add_dead_letter(letter)
        return
    if isinstance(message, ParkedMessage):
        message.parking.done(message)
    state_backend.unit.add_dead_letter(letter)


async def dead_letter_refused(app: AppT, entry: Outgoing, error: Exception) -> None:
    """Store an event that the broker refused to take; on return the event that sent it may be
    finished. While the database cannot be reached this waits."""
    letter = rejected_letter(app.conf.id, entry, error)
    state_backend = state_backend_of(app)
    if state_backend is None:
        logger.error("The broker did not take an event of %s", entry.topic, exc_info=error)
        return
    while True:
        try:
            number = await state_backend.keep(letter)
        except DatabaseError as unavailable:
            logger.warning("Dead letter waits for the database: %s", unavailable)
            await asyncio.sleep(RETRY_EVERY)
        else:
            logger.warning(
                "The broker did not take an event of %s, which is dead letter %s now: %s",
                entry.topic,
                number,
                line_of(error),
            )
            return
