"""``redfaust relay``."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import click

from app.backoff import Backoff
from app.broker import open_broker
from app.settings import Settings
from redfaust.brokers.log_cleaner import LogCleaner
from redfaust.outbox.relay import WAITED_OUT, Relay, in_one_line
from redfaust.outbox.relay_member import attending
from redfaust.postgres.database import Database
from redfaust.processing.rejected import dead_letter_rejected

logger = logging.getLogger(__name__)


@click.command()
def command() -> None:
    """Publish what the outbox holds onto its topics.

    One relay works at a time, the others are spares. Each worker runs a relay unless it is started
    with --no-relay. A relay tries again when the broker or the database is away or refuses
    something. SIGTERM or Ctrl-C stops it.
    """
    settings = Settings.load()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(message)s"
    )
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    """Relay until stopped. The first connection must succeed, so that its error reaches the
    terminal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    backoff = Backoff()
    connected_before = False
    while not stop.is_set():
        try:
            async with _connected(settings) as relay:
                connected_before = True
                logger.info("relaying")
                with backoff.attempt():
                    await relay.run(stop)
        except WAITED_OUT as error:
            if not connected_before:
                raise
            delay = backoff.delay()
            logger.warning("%s; trying again in %.1f s", in_one_line(error), delay)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), delay)


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[Relay]:
    database = await Database.connect(
        settings.database.get_secret_value(), application_name="redfaust relay"
    )
    try:
        async with open_broker(settings) as broker:
            keeping = asyncio.create_task(LogCleaner(broker, f"relay {uuid4()}").run())
            relay = Relay(
                database, broker, dead_letter=dead_letter_rejected(database, settings.app_id)
            )
            try:
                async with attending(broker, database, relay, app=settings.app_id):
                    yield relay
            finally:
                keeping.cancel()
    finally:
        await database.close()
