"""A small application of somebody's own, whose workers and relays are processes of their own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any, NamedTuple

import faust

from app.cli import relay
from app.settings import Settings
from redfaust.brokers.membership import NAME
from redfaust.errors import RowUnreadable
from redfaust.mail import Mail, Mailer, mailer
from redfaust.processing.retries import Retries
from tests.integration import faust_apps

APP = "bank"
PARTITIONS = 2
PATIENCE = 30.0

TRY_AGAIN, GIVE_UP, UNREADABLE = -1, -2, -3
"""Numbers that the agent cannot add."""

# Processes forked from one that has imported everything: each start saves seconds.
_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload([__name__])


class Place(NamedTuple):
    """Where it works."""

    broker: str
    database: str
    smtp: str
    flags: str
    """A directory with files by which tests tell agents what to do."""


class Hopeless(Exception):
    """Nothing that another attempt would help."""


def new_app(place: Place) -> faust.App:
    """The application."""
    app = faust_apps.new_app(place.broker, place.database, name=APP, partitions=PARTITIONS)
    numbers = app.topic("numbers", key_type=str)
    slow = app.topic("slow", key_type=str)
    letters = app.topic("letters", key_type=str)
    sums = app.Table("sums", key_type=str, value_type=int, default=int)
    post = Mailer(place.smtp, "bank@example.org")
    flags = Path(place.flags)

    @app.agent(numbers, name="add", retries=Retries(attempts=100, delay=1, never=(Hopeless,)))
    async def add(stream: Any) -> None:
        async for event in stream.events():
            held = flags / "mended"
            if event.value == GIVE_UP:
                raise Hopeless("this account is closed")
            if event.value == TRY_AGAIN and not held.exists():
                raise RuntimeError("the other bank is closed; token=hush")
            if event.value == UNREADABLE and not held.exists():
                raise RowUnreadable("it was edited; token=hush", event.message.partition)
            sums[event.key] += event.value

    @app.agent(slow, name="audit")
    async def audit(stream: Any) -> None:
        async for _ in stream:
            while (flags / "stuck").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            if (flags / "slow").exists():
                await asyncio.sleep(0.3)

    @app.agent(letters, name="mail", delivery="shared", retries=Retries(attempts=100, delay=1))
    async def mail(stream: Any) -> None:
        async for text in stream:
            if not (flags / "mended").exists():
                await post.send(Mail("ann@example.org", "News", text, None, idempotency_key=text))

    return app


async def _work(place: Place) -> None:
    mailer.COMMAND_TIMEOUT = mailer.SEND_TIMEOUT = 0.5
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    app = new_app(place)
    await app.start()
    await told.wait()
    await app.stop()


def _worker(place: Place, name: str) -> None:
    os.environ[NAME] = name
    asyncio.run(_work(place))


def _relay(settings: Settings) -> None:
    asyncio.run(relay._run(settings))


class Processes:
    """Workers and relays, by names."""

    def __init__(self, place: Place, settings: Settings) -> None:
        self._place = place
        self._settings = settings
        self._running: dict[str, multiprocessing.process.BaseProcess] = {}

    def start_worker(self, name: str) -> None:
        """Start a worker."""
        self._start(name, _fork.Process(target=_worker, args=(self._place, name), daemon=True))

    def start_relay(self, name: str) -> None:
        """Start a relay, which is known by host and process."""
        self._start(name, _fork.Process(target=_relay, args=(self._settings,), daemon=True))

    def _start(self, name: str, process: multiprocessing.process.BaseProcess) -> None:
        assert name not in self._running
        process.start()
        self._running[name] = process

    def pid(self, name: str) -> int:
        """The process's id."""
        pid = self._running[name].pid
        assert pid is not None
        return pid

    def send(self, name: str, sign: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid(name), sign)

    async def end(self, name: str, sign: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal and wait for the end."""
        self.send(name, sign)
        process = self._running.pop(name)
        await asyncio.to_thread(process.join, PATIENCE)

    def kill_all(self) -> None:
        """Leave none."""
        for process in self._running.values():
            process.kill()
            process.join()
