"""Server processes that end with their parent, whatever becomes of it.

Each runs in a session of its own, so that Ctrl-C reaches the parent alone, which then stops
them in order. If the parent is killed, the kernel sends them the signal they asked for.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from app.embedded.accounts import Account
from app.errors import ServerFailed

READY_PATIENCE = 60.0
"""Seconds for a server to become ready; recovery after a crash is part of it."""
START_ATTEMPTS = 5
"""How often a start is tried when somebody else took the port that had just been free."""
POLL_INTERVAL = 0.02
LOG_TAIL_LINES = 12

Started = TypeVar("Started")

StopPlan = Sequence[tuple[signal.Signals, float]]
"""Signals in order, each with the seconds it is given to work."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(sig: signal.Signals) -> Callable[[], None]:
    """For ``preexec_fn``: have ``sig`` sent to the child when this process ends.

    It has to run after any change of user, which clears the request; ``preexec_fn`` does.
    """
    parent = os.getpid()

    def ask_kernel() -> None:
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:  # it was gone before the kernel had been asked
            os._exit(1)

    return ask_kernel


@dataclass(frozen=True, slots=True)
class Server:
    """A server process with its log."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    plan: StopPlan

    async def stop(self) -> None:
        """Stop it in the order of its plan; returns when it is gone. Harmless if it is."""
        await stop(self.process, self.plan)


async def start_server(
    name: str,
    argv: Sequence[str],
    *,
    cwd: Path,
    log: Path,
    plan: StopPlan,
    account: Account | None = None,
) -> Server:
    """Start a server that writes to ``log``; the log of the run before is kept beside it."""
    with _new_log(log) as output:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=server_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent(plan[0][0]),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    return Server(name, process, log, plan)


def working_directory(path: Path) -> Path:
    """The absolute path of a server's directory, which is made if it is not there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.resolve()


def _new_log(log: Path) -> BinaryIO:
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    return log.open("wb")


def server_environment() -> Mapping[str, str]:
    """What a server sees: nothing of the caller's secrets, messages in one language."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


async def stop(process: asyncio.subprocess.Process, plan: StopPlan) -> None:
    """Send the plan's signals, each with its patience, until the process is gone."""
    for sig, patience in plan:
        if process.returncode is not None:
            return
        try:
            process.send_signal(sig)
            await asyncio.wait_for(process.wait(), patience)
        except ProcessLookupError:
            await process.wait()
        except TimeoutError:
            continue


async def until_ready(server: Server, says: str, prove: Callable[[], Awaitable[None]]) -> None:
    """Wait until the server's log says it, then have it proved.

    The log is asked first because somebody else may have taken the port meanwhile, who is not
    to be shown a password. Raises :class:`~app.errors.ServerFailed` with the end of the log if
    the server ends or takes longer than :data:`READY_PATIENCE`; the server is then stopped.
    """
    try:
        async with asyncio.timeout(READY_PATIENCE):
            while server.process.returncode is None:
                if says in server.log.read_text(errors="replace"):
                    await prove()
                    return
                await asyncio.sleep(POLL_INTERVAL)
        reason = f"ended with status {server.process.returncode}"
    except TimeoutError:
        reason = f"was not ready within {READY_PATIENCE:.0f} s"
    except BaseException:
        await server.stop()
        raise
    await server.stop()
    raise ServerFailed(f"{server.name} {reason}; the end of {server.log}:\n{tail(server.log)}")


def tail(log: Path) -> str:
    """The last lines of a log."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (empty)"


async def on_port(port: int | None, start: Callable[[int], Awaitable[Started]]) -> Started:
    """Start a server on this port of the loopback interface, or on one where nobody listens.

    Somebody else may take a free port before the server does; then another is tried, at most
    :data:`START_ATTEMPTS` times.
    """
    for _ in range(START_ATTEMPTS - 1):
        try:
            return await start(port or free_port())
        except ServerFailed as error:
            if port or "address already in use" not in str(error).lower():
                raise
    return await start(free_port())


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
