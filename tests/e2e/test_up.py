"""``redfaust up`` as its user meets it: a process at a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from app.embedded import read_services
from app.embedded.process import free_port
from app.supervisor import HURRY_AFTER

SOURCE = Path(__file__).resolve().parents[2]
READY_PATIENCE = 90.0
DEMO_PATIENCE = 60.0
STOP_PATIENCE = 10.0
"""What is promised: everything has stopped by then."""


class Up:
    """A running ``redfaust up``."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, directory: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.directory = directory
        self.output: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.output.append(line.decode(errors="replace").rstrip())

    async def until(self, what: Callable[[], Awaitable[bool]], patience: float) -> None:
        """Wait until it is so; fail with the end of the output if it takes too long or ends."""
        deadline = time.monotonic() + patience
        while not await what():
            late = time.monotonic() > deadline
            if late or self.process.returncode is not None:
                end = "\n".join(self.output[-40:])
                pytest.fail(f"{'too late' if late else 'ended'}; the end of its output:\n{end}")
            await asyncio.sleep(0.1)

    async def until_ready(self) -> None:
        await self.until(self.is_ready, READY_PATIENCE)

    async def until_said(self, text: str, patience: float) -> None:
        async def said() -> bool:
            return any(text in line for line in self.output)

        await self.until(said, patience)

    async def is_ready(self) -> bool:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"{self.url}/health/ready")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

    async def get(self, path: str) -> Any:
        async with httpx.AsyncClient() as client:
            answer = await client.get(self.url + path)
            answer.raise_for_status()
            return answer.json()

    def processes(self) -> list[psutil.Process]:
        """All that belong to it, without itself."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, *arguments: str) -> psutil.Process:
        """The child that runs ``redfaust <arguments>``."""
        wanted = ["-m", "app", *arguments]
        for process in psutil.Process(self.process.pid).children():
            if process.cmdline()[2 : 2 + len(wanted)] == wanted:
                return process
        raise AssertionError(f"no child runs {arguments}")

    async def stop(self, sig: signal.Signals = signal.SIGINT) -> float:
        """Stop it, check that it ends well, and return the seconds that it took."""
        processes = self.processes()
        started = time.monotonic()
        self.process.send_signal(sig)
        status = await asyncio.wait_for(self.process.wait(), STOP_PATIENCE * 2)
        took = time.monotonic() - started
        await self._reader
        assert status == 0, "\n".join(self.output[-40:])
        assert [process for process in processes if alive(process)] == []
        return took


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def spawn(*arguments: str, **environ: str) -> asyncio.subprocess.Process:
    inherited = {name: value for name, value in os.environ.items() if "REDFAUST" not in name}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", *arguments),
        cwd=SOURCE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**inherited, **environ},
    )


@asynccontextmanager
async def up(directory: Path, *arguments: str, **environ: str) -> AsyncIterator[Up]:
    port = free_port()
    where = ("--port", str(port), "--data-dir", str(directory))
    running = Up(await spawn("up", *where, *arguments, **environ), port, directory)
    try:
        yield running
    finally:
        if running.process.returncode is None:
            running.process.kill()
            await running.process.wait()


async def refused(*arguments: str, **environ: str) -> tuple[int | None, str]:
    """Exit code and output of a command that ends by itself."""
    process = await spawn(*arguments, **environ)
    output, _ = await asyncio.wait_for(process.communicate(), READY_PATIENCE)
    return process.returncode, output.decode()


@pytest.mark.long
async def test_the_loop_that_faust_is_told_to_use_is_not_for_the_supervisor(tmp_path: Path) -> None:
    async with up(tmp_path / "data", "--no-demo", FAUST_LOOP="uvloop") as running:
        await running.until_ready()
        await running.stop()


@pytest.mark.long
async def test_it_stops_in_time_when_it_is_terminated(tmp_path: Path) -> None:
    async with up(tmp_path / "data", "--no-demo") as running:
        await running.until_ready()
        assert await running.stop(signal.SIGTERM) < STOP_PATIENCE


async def test_the_demo_plays_once_and_the_data_stay(tmp_path: Path) -> None:
    async with up(tmp_path / "data") as running:
        await running.until_ready()
        await running.until_said("status page", DEMO_PATIENCE)
        assert any(line.startswith("demo") for line in running.output)
        orders = await _orders(running)
        assert orders > 0
        await running.until(lambda: _has_confirmed(running), DEMO_PATIENCE)
        await running.stop()

    async with up(tmp_path / "data") as again:
        await again.until_ready()
        await again.until_said("status page", DEMO_PATIENCE)
        assert not any(line.startswith("demo") for line in again.output)
        assert await _orders(again) == orders
        await again.stop()


@pytest.mark.long
async def test_two_side_by_side_do_not_meet(tmp_path: Path) -> None:
    async with up(tmp_path / "one", "--no-demo") as one, up(tmp_path / "two", "--no-demo") as two:
        await asyncio.gather(one.until_ready(), two.until_ready())
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{one.url}/api/users", json={"email": "a@example.org", "name": "A"}
            )
            assert answer.status_code == httpx.codes.CREATED
            path = f"/api/users/{answer.json()['user_id']}"
            assert (await client.get(one.url + path)).status_code == httpx.codes.OK
            assert (await client.get(two.url + path)).status_code == httpx.codes.NOT_FOUND
        await asyncio.gather(one.stop(), two.stop())


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("web",), marks=pytest.mark.long),
        pytest.param(("relay",), marks=pytest.mark.long),
        ("worker", "--port", "0"),
    ],
)
async def test_a_child_that_dies_is_started_again(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    async with up(tmp_path / "data", "--no-demo") as running:
        await running.until_ready()
        child = running.child(*arguments)
        child.kill()

        await running.until_said("ended with status -9; starting again", READY_PATIENCE)
        await running.until(lambda: _has_another(running, child, arguments), READY_PATIENCE)
        await running.until_ready()
        await running.stop()


@pytest.mark.long
async def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    async with up(tmp_path / "data", "--no-demo") as running:
        await running.until_ready()
        processes = running.processes()
        assert len(processes) >= 5
        running.process.kill()
        await running.process.wait()
        deadline = time.monotonic() + STOP_PATIENCE
        while any(map(alive, processes)) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert [process for process in processes if alive(process)] == []
    assert read_services(tmp_path / "data") is None


@pytest.mark.long
async def test_a_signal_that_arrives_twice_at_once_does_not_hurry(tmp_path: Path) -> None:
    async with up(tmp_path / "data", "--no-demo") as running:
        await running.until_ready()
        running.process.send_signal(signal.SIGTERM)
        await running.stop(signal.SIGTERM)
        assert any("stopping" in line for line in running.output)
        assert not any("not waiting" in line for line in running.output)


@pytest.mark.long
async def test_what_hangs_is_killed_in_time(tmp_path: Path) -> None:
    async with up(tmp_path / "data", "--no-demo", "--workers", "2") as running:
        await running.until_ready()
        for process in psutil.Process(running.process.pid).children():  # the servers too
            process.suspend()
        assert await running.stop() < STOP_PATIENCE


@pytest.mark.long
async def test_a_second_signal_hurries(tmp_path: Path) -> None:
    async with up(tmp_path / "data", "--no-demo") as running:
        await running.until_ready()
        running.child("worker").suspend()
        running.process.send_signal(signal.SIGINT)
        await asyncio.sleep(HURRY_AFTER * 1.2)
        assert running.process.returncode is None
        await running.stop()
        assert any("not waiting any longer" in line for line in running.output)


@pytest.mark.long
async def test_stopped_while_starting(tmp_path: Path) -> None:
    async with up(tmp_path / "data", "--no-demo") as running:
        await running.until_said("Valkey runs", READY_PATIENCE)
        assert await running.stop() < STOP_PATIENCE


async def test_other_commands_find_what_runs(tmp_path: Path) -> None:
    directory = tmp_path / "ä b"
    async with up(directory, "--no-demo") as running:
        await running.until_said("Ctrl-C stops", READY_PATIENCE)
        assert read_services(directory) is not None

        [line] = [line for line in running.output if line.endswith("/env'")]
        script = f'{line.partition("|")[2].strip()} && echo "$REDFAUST_BROKER"'
        shell = await asyncio.to_thread(
            subprocess.run, ["sh", "-c", script], capture_output=True, text=True, check=True
        )
        assert shell.stdout.startswith("redis://")

        code, output = await refused("migrate", "--json", REDFAUST_DATA_DIR=str(directory))
        assert (code, json.loads(output)) == (0, [])

        assert await running.stop(signal.SIGINT) < STOP_PATIENCE

    assert read_services(directory) is None
    code, output = await refused("migrate", REDFAUST_DATA_DIR=str(directory))
    assert code == 1
    assert "redfaust up" in output


async def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, output = await refused("up", "--port", port, "--data-dir", str(tmp_path / "data"))

    assert code == 1
    assert re.fullmatch(rf"Error: port {port} of 127\.0\.0\.1 cannot be used .*--port\n", output)
    assert not (tmp_path / "data").exists()


@pytest.mark.long
async def test_a_directory_in_use_is_one_line(tmp_path: Path) -> None:
    directory = str(tmp_path / "data")
    async with up(tmp_path / "data", "--no-demo") as running:
        await running.until_said("Valkey runs", READY_PATIENCE)
        code, output = await refused("up", "--port", "0", "--data-dir", directory)
        assert code == 1
        assert re.fullmatch(
            rf"Error: .* in use by process {running.process.pid}: .*--data-dir\n", output
        )
        await running.stop()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"REDFAUST_PROT": "1"}, "did you mean REDFAUST_PORT"),
        ({"REDFAUST_BROKER": "redis://127.0.0.1:1/0"}, "127.0.0.1:1"),
        ({"REDFAUST_BROKER": "redis://127.0.0.1:1/0"}, "`unset REDFAUST_BROKER` to have embedded"),
        ({"REDFAUST_BROKER": "memory://"}, "is within one process"),
        ({"REDFAUST_DATABASE": "postgresql://u:p@127.0.0.1:1/d"}, "127.0.0.1:1"),
    ],
)
async def test_what_cannot_be_used_is_a_line_and_exit_code_1(
    tmp_path: Path, environ: dict[str, str], message: str
) -> None:
    code, output = await refused(
        "up", "--port", "0", "--data-dir", str(tmp_path / "data"), **environ
    )

    errors = [line for line in output.splitlines() if not line.startswith("up ")]
    assert code == 1
    assert len(errors) == 1
    assert errors[0].startswith("Error: ")
    assert message in errors[0]


async def _has_another(up: Up, child: psutil.Process, arguments: tuple[str, ...]) -> bool:
    try:
        return up.child(*arguments).pid != child.pid
    except (AssertionError, psutil.NoSuchProcess):
        return False


async def _orders(up: Up) -> int:
    count: int = await _fetchval(up, "SELECT count(*) FROM orders")
    return count


async def _has_confirmed(up: Up) -> bool:
    query = "SELECT count(*) FROM order_states WHERE value ->> 'status' = 'confirmed'"
    return bool(await _fetchval(up, query))


async def _fetchval(up: Up, query: str) -> Any:
    services = read_services(up.directory)
    assert services is not None
    connection = await asyncpg.connect(services.database)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()
