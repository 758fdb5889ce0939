"""A worker process."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from mode import loop

from app.application_id import claim_app_id
from app.settings import Settings
from app.shop import create_shop
from redfaust.gc_tuning import tune_gc
from redfaust.tables.manager import TableManager


def run(settings: Settings, *, port: int, relay: bool) -> None:
    """Work until SIGTERM or SIGINT, then finish what is in hand and exit with 0.

    ``relay``: whether this process also publishes what the outbox holds, or stands by for that.
    Raises :class:`~app.errors.AppIdTaken`, and RedfaustError.
    """
    starting = asyncio.new_event_loop()
    try:
        starting.run_until_complete(claim_app_id(settings))
    finally:
        starting.close()
    loop.use("uvloop")  # counting takes a tenth less of the processor with it
    shop = create_shop(settings, web_port=port)
    cast("TableManager", shop.tables).runs_relay = relay
    if settings.log_level == "info":
        # Faust tells of every service that starts and stops. That is for debugging.
        for library in ("faust", "mode", "uvicorn"):
            logging.getLogger(library).setLevel(logging.WARNING)
    tune_gc()
    shop.Worker(loglevel=settings.log_level, quiet=True).execute_from_commandline()
