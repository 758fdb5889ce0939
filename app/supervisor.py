"""What ``redfaust up`` runs: servers, workers, relay and web, started and stopped in order."""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from app.agents_tables import create_agents_tables
from app.broker import open_broker
from app.child_process import Child, Say, follow, spawn
from app.embedded import DataDirectory
from app.embedded.process import free_port
from app.errors import SupervisorError
from app.schema import migrate_all
from app.servers import SHELL, Installation, running_servers
from app.settings import PREFIX, Given, Settings, variable
from redfaust.brokers.url import BrokerUrl
from redfaust.errors import RedfaustError
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load
from redfaust.rights import Role
from redfaust.transports.by_url import MEMORY

logger = logging.getLogger(__name__)

READY_PATIENCE: Final = 60.0
"""Seconds from the start of the processes until the web API has to be ready."""
READY_INTERVAL: Final = 0.1
READY_ANSWER: Final = 5.0
HOPELESS_ENDS: Final = 3
"""A process that has ended so often before all was ready will not come up by itself."""
DEMO_PATIENCE: Final = 120.0

STOP_PATIENCE: Final = 5.5
"""Seconds for all processes to stop; with what the servers are given it stays below 10. Workers
have what web and relay leave of it."""
HURRY_AFTER: Final = 1.0
"""Seconds within which a second signal is taken for the first: a terminal or a process manager
may send it to us and, once more, by way of the make that started us."""
WEB_PATIENCE: Final = 1.5
RELAY_PATIENCE: Final = 1.0


class Supervisor:
    """One installation on this machine."""

    def __init__(self, given: Given, *, workers: int, demo: bool, say: Say) -> None:
        self._given = given if given.port else given.model_copy(update={"port": free_port()})
        self._workers = workers
        self._demo = demo
        self._say = say
        self._directory = DataDirectory(given.data_dir)
        self._children: list[Child] = []
        self._told_to_stop = asyncio.Event()
        self._told_at = 0.0

    async def run(self) -> None:
        """Start everything, then stay until SIGINT or SIGTERM, then stop everything in order.

        A second signal does not wait for the processes to finish what they are at. Raises
        :class:`~app.errors.SupervisorError` or another of the application's errors if it cannot
        be started; nothing is left running then.
        """
        check_broker(self._given)
        check_port(self._given.host, self._given.port)
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sig, self._signalled)
        work = asyncio.create_task(self._work())
        told = asyncio.create_task(self._told_to_stop.wait())
        await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        work.cancel()
        try:
            await work
        except asyncio.CancelledError:
            logger.info("stopped; the data are kept in %s", self._directory.path)

    def _signalled(self) -> None:
        now = asyncio.get_running_loop().time()
        if not self._told_to_stop.is_set():
            logger.info("stopping (once more to hurry)")
            self._told_at = now
            self._told_to_stop.set()
        elif now - self._told_at > HURRY_AFTER:
            logger.info("not waiting any longer")
            for child in self._children:
                child.kill()

    async def _work(self) -> None:
        async with running_servers(self._given) as installation:
            fresh = await self._prepare(installation.settings_of(Role.OWNER))
            settings = installation.settings_of(SHELL)
            async with self._processes(installation):
                await self._until_ready(settings)
                if self._demo and fresh:
                    await self._play(settings)
                self._welcome(settings)
                await asyncio.Event().wait()

    async def _prepare(self, settings: Settings) -> bool:
        try:
            return await prepare(settings)
        except RedfaustError as error:
            given = self._given.model_dump(include={"broker", "database"}, exclude_none=True)
            if not given:
                raise
            names = " ".join(map(variable, given))
            # As in a terminal that has loaded the servers of a run that is over.
            raise SupervisorError(f"{error}; `unset {names}` to have embedded ones") from error

    @asynccontextmanager
    async def _processes(self, installation: Installation) -> AsyncIterator[None]:
        environ = {
            role: child_environment(installation.settings_of(role))
            for role in (Role.WEB, Role.RELAY, Role.WORKER)
        }
        web = Child("web", ["web"], environ[Role.WEB], self._say)
        relay = Child("relay", ["relay"], environ[Role.RELAY], self._say)
        workers = [
            Child(name, ["worker", "--port", "0", "--name", name], environ[Role.WORKER], self._say)
            for name in (f"worker-{number}" for number in range(1, self._workers + 1))
        ]
        self._children = [*workers, relay, web]
        for child in self._children:
            child.start()
        try:
            yield
        finally:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + STOP_PATIENCE
            await web.stop(WEB_PATIENCE)
            await relay.stop(RELAY_PATIENCE)
            left = deadline - loop.time()
            await asyncio.gather(*(worker.stop(left) for worker in workers))

    async def _until_ready(self, settings: Settings) -> None:
        try:
            async with asyncio.timeout(READY_PATIENCE):
                while not await asyncio.to_thread(is_ready, settings.host, settings.port):
                    for child in self._children:
                        if child.ends >= HOPELESS_ENDS:
                            raise SupervisorError(failure(child, f"ended {child.ends} times"))
                    await asyncio.sleep(READY_INTERVAL)
        except TimeoutError:
            troubled = max(self._children, key=lambda child: child.ends)
            what = f"has ended {troubled.ends} times" if troubled.ends else "has not ended"
            raise SupervisorError(
                f"not ready within {READY_PATIENCE:.0f} s. {failure(troubled, what)}"
            ) from None

    async def _play(self, settings: Settings) -> None:
        logger.info("playing the demo, as nothing was ordered here yet")
        process = await spawn(["demo"], child_environment(settings))
        try:
            async with asyncio.timeout(DEMO_PATIENCE):
                status = await follow(process, lambda line: self._say("demo", line))
        except TimeoutError:
            logger.warning("the demo was not done within %.0f s; going on without", DEMO_PATIENCE)
        else:
            if status != 0:
                logger.warning("the demo ended with status %d; going on without", status)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _welcome(self, settings: Settings) -> None:
        url = f"http://{local(settings.host)}:{settings.port}"
        for line in (
            "",
            f"ready: {url}/          status page",
            f"       {url}/docs      the web API",
            "in another terminal, with the rights of a worker:",
            f"       . {shlex.quote(str(self._directory.shell_environment))}",
            '       psql "$REDFAUST_DATABASE"',
            *_broker_client(settings),
            f"       {shlex.quote(command_name())} status",
            f"Ctrl-C stops everything; the data stay in {self._directory.path}",
            "",
        ):
            logger.info("%s", line)


def _broker_client(settings: Settings) -> list[str]:
    if BrokerUrl.parse(settings.broker.get_secret_value()).scheme in ("redis", "rediss"):
        return ['       redis-cli -u "$REDFAUST_BROKER"']
    return []


def check_broker(given: Given) -> None:
    """Raises :class:`~app.errors.SupervisorError` if our processes could not share it."""
    if given.broker and BrokerUrl.parse(given.broker.get_secret_value()).scheme == MEMORY:
        raise SupervisorError(
            f"{variable('broker')}: {MEMORY}:// is within one process, and these are several: "
            "name another, or none to have an embedded Valkey"
        )


def check_port(host: str, port: int) -> None:
    """Raises :class:`~app.errors.SupervisorError` if nobody could listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise SupervisorError(
            f"port {port} of {host} cannot be used ({error.strerror}): "
            "stop what listens there, or choose another by REDFAUST_HOST or --port"
        ) from error


async def prepare(settings: Settings) -> bool:
    """Make sure that broker and database answer, and migrate; return whether the shop is new.

    Raises :class:`~redfaust.errors.RedfaustError` if one of them cannot be used.
    """
    async with open_broker(settings):
        pass
    database = await Database.connect(settings.database.get_secret_value())
    try:
        done = await migrate_all(database, settings.app_id)
        done += await create_agents_tables(database, settings)
        for name in done:
            logger.info("migrated %s", name)
        async with database.transaction() as connection:
            return not await connection.fetchval(load("app", "orders_exist"))
    finally:
        await database.close()


def child_environment(settings: Settings) -> Mapping[str, str]:
    """Our own environment, with all settings spelled out."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return inherited | settings.environ()


def is_ready(host: str, port: int) -> bool:
    """Whether ``GET /health/ready`` answers 200."""
    connection = http.client.HTTPConnection(local(host), port, timeout=READY_ANSWER)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def local(host: str) -> str:
    """The name by which this machine reaches what listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "localhost"}.get(host, host)  # noqa: S104 - compared


def command_name() -> str:
    """What to type to run ``redfaust``, which may lie in an environment that is not active."""
    script = Path(sys.executable).with_name("redfaust")
    if shutil.which("redfaust") == str(script) or not script.exists():
        return "redfaust"
    return os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)


def failure(child: Child, what: str) -> str:
    """What is wrong with a process, with the end of its log."""
    lines = "\n".join(f"  {line}" for line in child.tail) or "  (empty)"
    return f"{child.name} {what}; the end of its log:\n{lines}"
