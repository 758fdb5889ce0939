"""The web API within a worker."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import faust
from mode import Service

from app.settings import Settings
from app.web.application import create_web
from app.web.listening import addresses, listen
from app.web.server import WebServer
from app.web.services import open_services


class WebService(Service):
    """Serves the same application as ``redfaust web`` does, for as long as its worker runs."""

    mundane_level = "debug"

    def __init__(self, settings: Settings, app: faust.App, *, port: int | None = None) -> None:
        """Port 0 takes a free one; without a port it is Faust's own setting."""
        super().__init__()
        self._port = port
        self._settings = settings
        self._app = app
        self._server: WebServer | None = None
        self._serving: asyncio.Future[None] | None = None
        self._stop = asyncio.Event()
        self._services = AsyncExitStack()

    async def on_start(self) -> None:
        services = await self._services.enter_async_context(open_services(self._settings))
        # Faust's own variables and options choose it too.
        sockets = listen(self._app.conf.web_bind, self._listen_port())
        web = create_web(self._settings, services, bound_to=addresses(sockets))
        self._server = WebServer(web, sockets, log_level=self._settings.log_level)
        self._serving = asyncio.ensure_future(self._server.run_until(self._stop))

    async def on_stop(self) -> None:
        self._stop.set()
        if self._serving is not None:
            await self._serving
        await self._services.aclose()

    def get_web_url(self) -> str:
        """Where it listens, or is going to. Faust's banner asks for it by this name."""
        port = self._listen_port() if self._server is None else self._server.port
        return f"http://{self._app.conf.web_bind}:{port}"

    def _listen_port(self) -> int:
        return self._app.conf.web_port if self._port is None else self._port
