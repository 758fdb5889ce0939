"""The relay within a worker.

What transactions publish, what agents schedule and what agents with shared delivery send lies in
the outbox, and so do replayed dead letters. An application whose outbox no relay carries would wait
for ever: so each of its workers runs a relay, of which one is active.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NoReturn

from faust.types import AppT

from redfaust.brokers.broker import Broker
from redfaust.brokers.membership import worker_name
from redfaust.outbox.relay import WAITED_OUT, Relay, in_one_line
from redfaust.outbox.relay_member import attending
from redfaust.postgres.database import Database
from redfaust.processing.rejected import dead_letter_rejected

RETRY_EVERY = 1.0
"""Seconds between two attempts while broker or database are away."""

logger = logging.getLogger(__name__)


async def relay(app: AppT, database: Database, broker: Broker) -> None:
    """Relay, or stand by, until cancelled.

    Whatever goes wrong is logged and tried again: an outbox that cannot be read stops no agent.
    """
    relay = Relay(database, broker, dead_letter=dead_letter_rejected(database, app.conf.id))

    async def attend() -> None:
        # Once: a relay that waits for something is there all the same.
        name = worker_name()  # what is said of the worker is said of its relay
        async with attending(broker, database, relay, app=app.conf.id, name=name):
            await _again_and_again(lambda: relay.run(asyncio.Event()))

    await _again_and_again(attend)


async def _again_and_again(step: Callable[[], Awaitable[None]]) -> NoReturn:
    while True:
        try:
            await step()
        except WAITED_OUT as error:
            logger.warning("Relaying waits: %s", in_one_line(error))
        except Exception:
            logger.exception("Relaying failed, and begins again")
        await asyncio.sleep(RETRY_EVERY)
