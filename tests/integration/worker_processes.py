"""Workers of one application, each a process of its own, and what is known of them."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import faust
import pytest

from redfaust import failpoints
from redfaust.brokers.assignor import name_of
from redfaust.brokers.broker import Broker, GroupState
from redfaust.brokers.membership import NAME
from tests.integration import faust_apps

APP = "workers"
PARTITIONS = 8
PATIENCE = 30.0

IMPATIENT: Mapping[str, float] = {
    f"redfaust.brokers.{module}.{name}": seconds
    for module in ("failure_detector", "membership")
    for name, seconds in (("HEARTBEAT", 0.1), ("SILENCE", 1.5))
}
"""What is patient in production, and would only be waited for here."""

# Processes forked from one that has imported everything: each start saves 1.5 seconds.
_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload([__name__])


class Place(NamedTuple):
    """Where they work."""

    broker: str
    database: str


def new_app(place: Place) -> faust.App:
    """An application that counts what comes for each key."""
    app = faust_apps.new_app(place.broker, place.database, name=APP, partitions=PARTITIONS)
    numbers = app.topic("numbers", key_type=str)
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(numbers)
    async def count(stream: Any) -> None:
        async for event in stream.events():
            counts[event.key] += 1

    return app


def _live(place: Place, environ: Mapping[str, str]) -> None:
    os.environ.update(environ)
    patch = pytest.MonkeyPatch()
    for name, value in IMPATIENT.items():
        patch.setattr(name, value)
    failpoints.point = failpoints.armed(os.environ)

    async def live() -> None:
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        app = new_app(place)
        await app.start()
        await told.wait()
        await app.stop()

    asyncio.run(live())


class Workers:
    """Those that run, by name."""

    def __init__(self, place: Place, broker: Broker) -> None:
        self._place = place
        self._broker = broker
        self._running: dict[str, multiprocessing.process.BaseProcess] = {}

    def start(self, name: str, **environ: str) -> None:
        """Start one."""
        assert name not in self._running
        process = _fork.Process(
            target=_live, args=(self._place, {NAME: name} | environ), daemon=True
        )
        process.start()
        self._running[name] = process

    def send(self, name: str, sign: signal.Signals) -> None:
        """Send a signal to one."""
        pid = self._running[name].pid
        assert pid is not None
        os.kill(pid, sign)

    async def end(self, name: str, sign: signal.Signals | None = signal.SIGTERM) -> int | None:
        """Have one end, and return its exit code."""
        if sign is not None:
            self.send(name, sign)
        process = self._running.pop(name)
        await asyncio.to_thread(process.join, PATIENCE)
        return process.exitcode

    def kill_all(self) -> None:
        """Leave none."""
        for process in self._running.values():
            process.kill()
            process.join()

    async def until(self, condition: Callable[[GroupState], bool]) -> GroupState:
        """Wait until it is true of the group's state, which is looked at whenever it
        changes."""
        async with asyncio.timeout(PATIENCE):
            while True:
                group_state = await self._broker.group_state(APP)
                if condition(group_state):
                    return group_state
                await self._broker.reassigned(APP, group_state.version, wait=0.1)

    async def share(self, *names: str) -> GroupState:
        """Wait until these are the members, and each has its share."""
        return await self.until(lambda group_state: _is_shared(group_state, set(names)))


def owned(group_state: GroupState) -> dict[str, set[int]]:
    """The numbers of each member, by its name."""
    return {
        name_of(m): set(group_state.assignment.owned_by(m)) for m in group_state.assignment.members
    }


def _is_shared(group_state: GroupState, names: set[str]) -> bool:
    shares = owned(group_state)
    counts = [len(numbers) for numbers in shares.values()]
    return (
        shares.keys() == names
        and set().union(*shares.values()) == set(range(PARTITIONS))
        and max(counts) - min(counts) <= 1
    )
