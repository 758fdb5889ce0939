"""The web API as a server: as a process of its own, or within another one."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

import uvicorn
from fastapi import FastAPI

from app.settings import Settings
from app.web.application import create_web
from app.web.listening import addresses, listen
from app.web.protocol import Connections, Protocol
from app.web.services import open_services

GRACE: Final = 1
"""Seconds that requests under way may take to finish after a stop."""
KEEP_ALIVE: Final = 5
"""Seconds after which an idle connection is closed."""


class WebServer(uvicorn.Server):
    """Serves in the event loop that calls :meth:`run_until`; leaves signals to its owner.

    The sockets are open already, so that a start fails early or not at all.
    """

    def __init__(
        self, web: FastAPI, sockets: Sequence[socket.socket], *, log_level: str = "info"
    ) -> None:
        self._sockets = list(sockets)
        self.port: int = self._sockets[0].getsockname()[1]
        """The port that was taken. It is told on while the server stops."""
        super().__init__(
            uvicorn.Config(
                web,
                # Not httptools, which uvicorn takes where it is installed: it is faster, and lets
                # headers be as large as a client likes.
                http=cast("Any", partial(Protocol, Connections())),
                ws="none",
                # Who a proxy says the client is can be forged.
                proxy_headers=False,
                lifespan="off",
                access_log=False,
                server_header=False,
                log_level=log_level,
                log_config=None,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=GRACE,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: uvicorn would raise the signal again, and the process would not exit 0."""
        yield

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set and the requests under way are answered."""
        serving = asyncio.create_task(self.serve(self._sockets))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            self.should_exit = True
            await serving


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(message)s")
    asyncio.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_services(settings) as services:
        sockets = listen(settings.host, settings.port)
        web = create_web(settings, services, bound_to=addresses(sockets))
        server = WebServer(web, sockets, log_level=settings.log_level)
        await server.run_until(stop)
