"""A worker that is told to stop ends without an error, whatever it is doing."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from redfaust.brokers.memory import MemoryBroker
from redfaust.errors import BrokerUnavailable
from redfaust.outbox.maintenance import Maintenance
from redfaust.postgres.database import Database
from redfaust.processing.state_backend import PostgresStateBackend, state_backend_of
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.proxy import Proxy


async def test_a_worker_may_be_stopped_while_partitions_move() -> None:
    app = new_app("memory://moving")
    numbers = app.topic("numbers", key_type=str)

    @app.agent(numbers)
    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    async with running(app):
        await eventually(lambda: bool(app.consumer.assignment()))
        app.consumer.stop_flow()
        app.rebalancing = True
    assert not app.crashed
    assert app.crash_reason is None


async def test_a_worker_may_be_stopped_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    app = new_app("memory://starting")
    opening, closed = asyncio.Event(), asyncio.Event()

    async def open_slowly(_: MemoryBroker) -> None:
        opening.set()
        await closed.wait()
        raise BrokerUnavailable("Connection closed by server.")

    async def close(_: MemoryBroker) -> None:
        closed.set()

    monkeypatch.setattr(MemoryBroker, "open", open_slowly)
    monkeypatch.setattr(MemoryBroker, "close", close)
    starting = asyncio.create_task(app.start())
    await asyncio.wait_for(opening.wait(), PATIENCE)
    await app.stop()
    await asyncio.wait_for(starting, PATIENCE)
    assert not app.crashed


FAILING = """
import faust

app = faust.App("failing", broker="memory://failing", web_enabled=False)

class Failing(app.conf.Worker):
    def _shutdown_loop(self):
        raise OSError("the file is gone")

@app.task
async def on_started():
    print("started", flush=True)

Failing(app, loglevel="WARNING", quiet=True).execute_from_commandline()
"""


async def test_a_worker_says_why_it_cannot_be_stopped_in_order(tmp_path: Path) -> None:
    worker = await _started(FAILING, tmp_path)
    worker.send_signal(signal.SIGTERM)
    said, _ = await worker.communicate()
    assert worker.returncode == 1
    assert b"OSError: the file is gone" in said


LEAVING = """
import asyncio

import faust

app = faust.App("leaving", broker="memory://leaving", web_enabled=False)

async def leave():
    try:
        print("started", flush=True)
        await asyncio.Event().wait()
    finally:
        for _ in range(10):
            await asyncio.sleep(0)
        print("left in order", flush=True)

@app.task
async def on_started():
    global leaving
    leaving = asyncio.create_task(leave())

app.Worker(loglevel="WARNING", quiet=True).execute_from_commandline()
"""


async def test_what_an_application_left_running_may_end_in_order(tmp_path: Path) -> None:
    worker = await _started(LEAVING, tmp_path)
    worker.send_signal(signal.SIGTERM)
    said, _ = await worker.communicate()
    assert worker.returncode == 0
    assert b"left in order" in said


async def _started(script: str, directory: Path) -> asyncio.subprocess.Process:
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert worker.stdout is not None
    while b"started" not in await worker.stdout.readline():
        assert worker.returncode is None
    return worker


async def test_nothing_is_published_once_the_database_is_closed(
    database_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(f"memory://{database_url.rpartition('/')[2]}", database_url)
    numbers = app.topic("numbers", key_type=str)
    tried = []

    @app.agent(numbers)
    async def read(stream: Any) -> None:
        async for _ in stream:
            pass

    close, keep = Database.close, Maintenance.keep

    async def noted_keep(self: Maintenance) -> None:
        monkeypatch.setattr(Maintenance, "seconds_until_due", 60.0)
        tried.append(self)
        await keep(self)

    async def close_and_wake(self: Database) -> None:
        await close(self)
        monkeypatch.setattr(Maintenance, "seconds_until_due", 0.0)
        tried.clear()
        state_backend = state_backend_of(app)
        assert isinstance(state_backend, PostgresStateBackend)
        state_backend.publisher.put([])  # wakes it
        for _ in range(10):
            await asyncio.sleep(0)

    monkeypatch.setattr(Maintenance, "keep", noted_keep)
    monkeypatch.setattr(Database, "close", close_and_wake)
    async with running(app):
        await eventually(lambda: bool(tried))
    assert not tried
    assert "Publishing waits" not in caplog.text


STOPS_WITHIN = 8.0
"""Seconds that a process manager waits before it kills, less what a loaded machine takes."""


@pytest.mark.parametrize("delivery", ["ordered", "shared"])
async def test_a_worker_whose_database_hangs_stops_before_it_is_killed(
    database_url: str, delivery: str
) -> None:
    parts = urlsplit(database_url)
    assert parts.port is not None
    async with Proxy(parts.port).listening() as way:
        host = parts.netloc.rpartition(":")[0]
        url = urlunsplit(parts._replace(netloc=f"{host}:{way.port}"))
        app = new_app(f"memory://{uuid.uuid4().hex}", url)
        names, out = app.topic("names", key_type=str), app.topic("out")
        begun: list[str] = []

        @app.agent(names, delivery=delivery)
        async def send(stream: Any) -> None:
            async for name in stream:
                begun.append(name)
                await out.send(key="k", value=name)

        await app.start()
        await names.send(key="a", value="one")
        await eventually(lambda: begun == ["one"])
        way.hold()
        await names.send(key="a", value="two")
        if delivery == "ordered":  # the others ask the inbox before they begin
            await eventually(lambda: len(begun) == 2)
        await asyncio.wait_for(app.stop(), STOPS_WITHIN)
    assert not app.crashed
