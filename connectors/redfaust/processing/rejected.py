"""Events that the broker refused to take, as dead letters of their topics."""

from __future__ import annotations

import logging

from redfaust.brokers.broker import Outgoing
from redfaust.errors import BrokerError
from redfaust.outbox.batch_publisher import DeadLetterEntry
from redfaust.postgres.database import Connection, Database
from redfaust.processing.dead_letters import DeadLetters, NewDeadLetter

logger = logging.getLogger(__name__)


def rejected_letter(app: str, entry: Outgoing, error: Exception) -> NewDeadLetter:
    """What to keep of an event that was never appended."""
    return NewDeadLetter(
        app=app,
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


def dead_letter_rejected(database: Database, app: str) -> DeadLetterEntry:
    """Keeps what the outbox cannot publish, under the name of an application."""
    letters = DeadLetters(database)

    async def keep(connection: Connection, entry: Outgoing, error: BrokerError) -> None:
        number = await letters.add(rejected_letter(app, entry, error), connection=connection)
        logger.warning(
            "The broker did not take an event of %s, which is dead letter %s now: %s",
            entry.topic,
            number,
            error,
        )

    return keep
