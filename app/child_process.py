"""Processes of our own, kept running until they are told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from app.backoff import Backoff
from app.embedded.process import die_with_parent, stop

LINE_LIMIT = 1 << 20
"""Bytes of one log line; a longer one is dropped."""
TAIL_LINES = 15
KILL_PATIENCE = 1.0

_SOURCE = str(Path(__file__).resolve().parents[1])

Say = Callable[[str, str], None]
"""Told a process's name and a line of its log."""


class State(Enum):
    """Where a child is in its life.

    ::

        IDLE ──▶ RUNNING ──▶ STOPPING ──▶ STOPPED
         │        ▲   │                     ▲ ▲
         │        │   ▼                     │ │
         │      RESTING ────────────────────┘ │
         └────────────────────────────────────┘

    It rests when it has ended without being told to.
    """

    IDLE = auto()
    RUNNING = auto()
    RESTING = auto()
    STOPPING = auto()
    STOPPED = auto()


_TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.IDLE: frozenset({State.RUNNING, State.STOPPED}),
    State.RUNNING: frozenset({State.RESTING, State.STOPPING}),
    State.RESTING: frozenset({State.RUNNING, State.STOPPED}),
    State.STOPPING: frozenset({State.STOPPED}),
    State.STOPPED: frozenset(),
}


class Child:
    """``redfaust <arguments>`` as a process that is started again whenever it ends."""

    def __init__(
        self, name: str, arguments: Sequence[str], environ: Mapping[str, str], say: Say
    ) -> None:
        self.name = name
        self.state = State.IDLE
        self.ends = 0
        """How often it has ended without being told to."""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        """Its last log lines."""
        self._arguments = arguments
        self._environ = environ
        self._say = say
        self._told_to_stop = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Keep it running from now on."""
        self._task = asyncio.create_task(self._keep_running(), name=self.name)

    async def stop(self, patience: float) -> None:
        """SIGTERM, and SIGKILL if that takes longer than ``patience`` seconds."""
        self._told_to_stop.set()
        if self.state is State.RUNNING and self._process is not None:
            self._move(State.STOPPING)
            await stop(self._process, ((signal.SIGTERM, patience), (signal.SIGKILL, KILL_PATIENCE)))
        if self._task is not None:
            await self._task

    def kill(self) -> None:
        """Do not wait for it any longer."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _keep_running(self) -> None:
        backoff = Backoff()
        while not self._told_to_stop.is_set():
            self._process = await spawn(self._arguments, self._environ)
            self._move(State.RUNNING)
            if self._told_to_stop.is_set():  # while it was being started
                self._move(State.STOPPING)
                self.kill()
            with backoff.attempt():
                status = await follow(self._process, self._heard)
            if self.state is State.RUNNING:
                await self._rest(status, backoff.delay())
        self._move(State.STOPPED)

    async def _rest(self, status: int, delay: float) -> None:
        self._move(State.RESTING)
        self.ends += 1
        self._say(self.name, f"ended with status {status}; starting again in {delay:.1f} s")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._told_to_stop.wait(), delay)

    def _heard(self, line: str) -> None:
        self.tail.append(line)
        self._say(self.name, line)

    def _move(self, state: State) -> None:
        assert state in _TRANSITIONS[self.state], f"{self.name}: {self.state} to {state}"
        self.state = state


async def spawn(arguments: Sequence[str], environ: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Start ``redfaust <arguments>``. It is killed when this process is.

    The package is found where ours lies: a folder called ``app`` in the working directory is
    somebody else's.
    """
    path = os.pathsep.join(filter(None, [_SOURCE, environ.get("PYTHONPATH")]))
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "app", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=LINE_LIMIT,
        env={**environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        preexec_fn=die_with_parent(signal.SIGKILL),
    )


async def follow(process: asyncio.subprocess.Process, heard: Callable[[str], None]) -> int:
    """Hand over each line that a process writes until it ends; return its status."""
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:
            heard(f"(a line of more than {LINE_LIMIT} bytes)")
            continue
        if not line:
            return await process.wait()
        heard(line.decode(errors="replace").rstrip())
