"""A worker process."""

from __future__ import annotations

import faust

from app.settings import Settings
from app.shop import create_shop


def run(settings: Settings, *, port: int) -> None:
    """Work until SIGTERM or SIGINT, then finish what is in hand and exit with 0."""
    shop = create_shop(settings, web_port=port)
    faust.Worker(shop, loglevel=settings.log_level, quiet=True).execute_from_commandline()
