"""The processes that are tortured: workers and relays."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.embedded.process import die_with_parent
from tests.torture import clock
from tests.torture.clock import Clock
from tests.torture.ledger import STARTED_VARIABLE

ROOT = Path(__file__).parents[2]
RESTART_AFTER = 0.5
"""Seconds until a process that ended by itself is started again."""
LOOK_EVERY = 0.05
"""Seconds between two looks at whether a process has come up."""
STOP_FOR = 30.0
"""Seconds that a graceful stop may take."""
TOLD_WITHIN = 2.0
"""Seconds that a process is given to tell what it is doing."""


@dataclass
class Process:
    """A process that is started again whenever it has ended, as a supervisor does."""

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    directory: Path
    wanted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set from the beginning. While it is not, a process that has ended is not started again."""
    left_with: list[int | None] = field(default_factory=list)
    """Exit codes of lives that :meth:`leave` has ended."""
    ended_by_itself: list[int] = field(default_factory=list)
    """Exit codes nobody had asked for. A process may end when it finds no server at its start."""
    _process: asyncio.subprocess.Process | None = None
    _stopping: bool = False
    _killed: int | None = None

    def __post_init__(self) -> None:
        self.wanted.set()
        self.clock = Clock(self.directory / f"{self.name}.clock")

    @property
    def pid(self) -> int | None:
        """Of the process that runs now, if one does."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def started(self) -> Path:
        """Is there once a worker has started, of its present life."""
        return self.directory / f"{self.name}.started"

    @property
    def log(self) -> Path:
        """What it printed, all its lives in a row."""
        return self.directory / f"{self.name}.log"

    async def run(self) -> int:
        """Keep it running until :meth:`stop`; the exit code of its last life."""
        while True:
            if not self.wanted.is_set():
                await self.wanted.wait()
                if self._stopping:
                    return 0
            self.started.unlink(missing_ok=True)
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "tests.torture.telling", *self.argv),
                    cwd=self.directory,
                    env={
                        **os.environ,
                        **self.environ,
                        **self.clock.environ,
                        STARTED_VARIABLE: str(self.started),
                        "PYTHONPATH": str(ROOT),
                    },
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=die_with_parent(signal.SIGKILL),
                )
            if self._stopping:
                self._process.terminate()
            code = await self._process.wait()
            clock.forget(self._process.pid)
            if self._stopping:
                return code
            if self._killed != self._process.pid:
                self.ended_by_itself.append(code)
                await asyncio.sleep(RESTART_AFTER)

    async def kill(self) -> int | None:
        """``kill -9``; the number of the process that is dead now, if one ran."""
        pid = self.pid
        if pid is not None:
            assert self._process is not None
            self._killed = pid
            self._process.kill()
            await self._process.wait()
        return pid

    async def leave(self) -> None:
        """Let a worker that has started end gracefully. It starts again if it is wanted."""
        try:
            async with asyncio.timeout(STOP_FOR):
                while not (self.started.exists() and self.pid):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(LOOK_EVERY)
                assert self._process is not None
                self._killed = self._process.pid
                self._process.terminate()
                self.left_with.append(await self._process.wait())
        except TimeoutError:
            self.left_with.append(None)
            await self.kill()

    def tail(self, size: int = 4_000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-size:]

    def send(self, sig: signal.Signals) -> None:
        """Send a signal to the process that runs now, if one does."""
        if self.pid is not None:
            assert self._process is not None
            self._process.send_signal(sig)

    async def until_it_can_be_stopped(self) -> None:
        """Return when it has begun to handle SIGTERM."""
        while not self._handles(signal.SIGTERM):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LOOK_EVERY)

    def _handles(self, sig: signal.Signals) -> bool:
        if self.pid is None:
            return False
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (sig - 1) & 1)

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end, for good."""
        self._stopping = True
        self.wanted.set()
        self.send(sig)


async def tell(processes: Iterable[Process]) -> None:
    """Let processes write to their logs what they are doing."""
    for process in processes:
        process.send(signal.SIGUSR1)
    await asyncio.sleep(TOLD_WITHIN)


@asynccontextmanager
async def running(
    processes: Sequence[Process],
) -> AsyncIterator[Callable[[], Awaitable[list[int | None]]]]:
    """Processes during the block, which may call what it gets to stop them gracefully, and to
    learn their exit codes: ``None`` of one that has not ended within :data:`STOP_FOR`."""
    lives = [asyncio.create_task(process.run()) for process in processes]

    async def stop() -> list[int | None]:
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_FOR):
                for process in processes:
                    if process.wanted.is_set():
                        await process.until_it_can_be_stopped()
                    process.stop()
                await asyncio.wait(lives)
        if not all(life.done() for life in lives):
            await tell(process for process in processes if process.pid)
        return [life.result() if life.done() else None for life in lives]

    try:
        yield stop
    finally:
        for process in processes:
            process.stop(signal.SIGKILL)
        await asyncio.gather(*lives, return_exceptions=True)
