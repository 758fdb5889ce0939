"""What a worker of the shop tells of itself, beside what all workers do."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import faust
from mode import Service

from redfaust.transports.consumer import Consumer


class WorkerInfo(Service):
    """Has this worker's heartbeats say where its web API is."""

    mundane_level = "debug"

    def __init__(self, app: faust.App, web_url: Callable[[], str]) -> None:
        super().__init__()
        self._app = app
        self._web_url = web_url

    async def on_start(self) -> None:
        cast(Consumer, self._app.consumer).announce(lambda: {"web": self._web_url()})
