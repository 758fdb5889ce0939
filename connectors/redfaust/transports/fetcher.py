"""The task that reads, for as long as the application runs."""

from __future__ import annotations

from typing import cast

from faust.transport.consumer import Fetcher as FaustFetcher
from mode import Service

from redfaust.transports.consumer import Consumer


class Fetcher(FaustFetcher):
    """Faust's crashes when it is cancelled in a rebalance, for a supervisor to start it again, and
    has none, as a comment there says. So a worker that was told to stop just then ended with an
    error.
    """

    @Service.task
    async def _fetcher(self) -> None:
        try:
            await cast(Consumer, self.app.consumer)._drain_messages(self)
        finally:
            self.set_shutdown()
