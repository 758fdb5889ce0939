"""Faults of workers and relays. Whom they hit is a function of the seed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from random import Random

from tests.torture.clock import LIBRARY, NOTICED_WITHIN, ONE_HOUR
from tests.torture.faults import Fault
from tests.torture.processes import Process
from tests.torture.strikes import Impossible, Strikes

MOMENT = 3.0
"""Seconds for which a process is stopped at most, and nobody notices."""
SILENCE = (7.0, 10.0)
"""Seconds for which a process is stopped, and others take over what it has."""
CLOCK_WRONG_FOR = 5.0
"""Seconds at most."""


class OnProcesses:
    """Hits workers, the one that joins and leaves among them, and relays."""

    def __init__(
        self, seed: int, workers: Sequence[Process], joining: Process, relays: Sequence[Process]
    ) -> None:
        self._choose = Random(f"on processes {seed}")
        self._workers = workers
        self._joining = joining
        self._relays = relays

    @property
    def strikes(self) -> Strikes:
        return {
            Fault.WORKER_KILLED: self._kill_worker,
            Fault.WORKER_STOPPED: self._stop_worker,
            Fault.WORKER_SILENT: self._silence_worker,
            Fault.WORKER_LEFT: self._let_worker_leave,
            Fault.WORKER_JOINED: self._let_worker_join,
            Fault.WORKER_CLOCK: self._move_clock,
            Fault.RELAY_KILLED: self._kill_relay,
            Fault.RELAY_STOPPED: self._stop_relay,
        }

    async def _kill_worker(self) -> None:
        await self._choose.choice(self._workers).kill()

    async def _stop_worker(self) -> None:
        await self._stop(self._choose.choice(self._workers), self._choose.uniform(0.1, MOMENT))

    async def _silence_worker(self) -> None:
        await self._stop(self._choose.choice(self._workers), self._choose.uniform(*SILENCE))

    async def _let_worker_leave(self) -> None:
        await self._choose.choice(self._workers).leave()

    async def _let_worker_join(self) -> None:
        if self._joining.wanted.is_set():
            self._joining.wanted.clear()
            await self._joining.leave()
        self._joining.wanted.set()

    async def _move_clock(self) -> None:
        if LIBRARY is None:
            raise Impossible("libfaketime is not installed (Debian's package faketime)")
        clock = self._choose.choice(self._workers).clock
        clock.move(self._choose.choice((-ONE_HOUR, ONE_HOUR)))
        try:
            await asyncio.sleep(NOTICED_WITHIN + self._choose.uniform(0, CLOCK_WRONG_FOR))
        finally:
            clock.move(0)

    async def _kill_relay(self) -> None:
        await self._choose.choice(self._relays).kill()

    async def _stop_relay(self) -> None:
        await self._stop(self._choose.choice(self._relays), self._choose.uniform(*SILENCE))

    async def _stop(self, process: Process, seconds: float) -> None:
        process.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            process.send(signal.SIGCONT)
