"""The embedded servers: their data stay, they do not meet, and they end with their parent."""

from __future__ import annotations

import asyncio
import grp
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from redis.asyncio import Redis

from app.embedded import (
    DataDirectory,
    Services,
    accounts,
    read_services,
    running_postgres,
    running_valkey,
    start_postgres,
    start_valkey,
)
from app.embedded.process import free_port
from app.errors import DirectoryInUse, DirectoryUnusable, ServerFailed

SOURCE = Path(__file__).resolve().parents[2]
PATIENCE = 15.0

HOST = """
import asyncio, sys
from pathlib import Path
from app.embedded import DataDirectory, running_postgres, running_valkey
from tests.rights import as_administrator

async def main():
    directory = DataDirectory(Path(sys.argv[1]))
    async with (
        directory.lock(),
        running_valkey(directory.valkey) as valkey,
        running_postgres(directory.postgres) as postgres,
    ):
        print(valkey.url, postgres.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""
"""A process that hosts both servers in a data directory until its standard input ends."""


async def test_data_stay_when_started_again(tmp_path: Path) -> None:
    for start in range(2):
        async with (
            running_valkey(tmp_path / "valkey") as valkey,
            running_postgres(tmp_path / "postgres") as postgres,
        ):
            async with Redis.from_url(valkey.url) as client:
                assert await client.incr("starts") == start + 1
            connection = await asyncpg.connect(postgres.url)
            await connection.execute("CREATE TABLE IF NOT EXISTS starts (number int)")
            await connection.execute("INSERT INTO starts VALUES ($1)", start)
            assert await connection.fetchval("SELECT count(*) FROM starts") == start + 1
            await connection.close()


async def test_two_side_by_side_do_not_meet(tmp_path: Path) -> None:
    async with (
        running_valkey(tmp_path / "one") as one,
        running_valkey(tmp_path / "two") as two,
        running_postgres(tmp_path / "pg-one") as pg_one,
        running_postgres(tmp_path / "pg-two") as pg_two,
    ):
        assert len({one.port, two.port, pg_one.port, pg_two.port}) == 4
        async with Redis.from_url(one.url) as client, Redis.from_url(two.url) as other:
            await client.set("only", "one")
            assert await other.get("only") is None
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(pg_one.url.replace(f":{pg_one.port}/", f":{pg_two.port}/"))


async def test_nobody_is_let_in_without_the_password(tmp_path: Path) -> None:
    async with (
        running_valkey(tmp_path / "valkey") as valkey,
        running_postgres(tmp_path / "postgres") as postgres,
    ):
        async with Redis.from_url(f"redis://127.0.0.1:{valkey.port}") as client:
            with pytest.raises(redis.AuthenticationError):
                await client.ping()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(f"postgresql://postgres:wrong@127.0.0.1:{postgres.port}/redfaust")
        arguments = " ".join(
            argument
            for server in (valkey.server, postgres.server)
            for argument in psutil.Process(server.process.pid).cmdline()
        )
        for name in ("valkey", "postgres"):
            password = tmp_path / name / "password"
            assert stat.S_IMODE(password.stat().st_mode) == 0o600
            assert password.read_text() not in arguments
        assert stat.S_IMODE((tmp_path / "valkey" / "valkey.conf").stat().st_mode) == 0o600


async def test_they_listen_on_loopback_alone(tmp_path: Path) -> None:
    async with (
        running_valkey(tmp_path / "valkey") as valkey,
        running_postgres(tmp_path / "postgres") as postgres,
    ):
        for server in (valkey.server, postgres.server):
            listening = [
                connection.laddr.ip
                for connection in psutil.Process(server.process.pid).net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            ]
            assert listening == ["127.0.0.1"]


async def test_a_stale_lock_file_of_postgres_does_not_matter(tmp_path: Path) -> None:
    async with running_postgres(tmp_path):
        pass
    # The number of a process that is alive, as may happen after a crash.
    (tmp_path / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n/nowhere\n1\n1\n\n\n")

    async with running_postgres(tmp_path) as postgres:
        connection = await asyncpg.connect(postgres.url)
        await connection.close()


async def test_an_interrupted_setup_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "data.partial").mkdir()
    (tmp_path / "data.partial" / "PG_VERSION").write_text("18\n")

    async with running_postgres(tmp_path) as postgres:
        connection = await asyncpg.connect(postgres.url)
        await connection.close()


async def test_a_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(ServerFailed, match=r"(?s)Valkey ended.*in use"):
            await start_valkey(tmp_path / "valkey", port=port)
        with pytest.raises(ServerFailed, match=r"(?s)Postgres ended.*in use"):
            await start_postgres(tmp_path / "postgres", port=port)


async def test_a_given_port_is_used(tmp_path: Path) -> None:
    port = free_port()
    async with running_valkey(tmp_path / "valkey") as first:
        assert first.port != port
    second = await start_valkey(tmp_path / "valkey", port=port)
    try:
        assert second.port == port
    finally:
        await second.stop()


async def test_a_directory_in_use_names_the_process(tmp_path: Path) -> None:
    async with DataDirectory(tmp_path).lock():
        with pytest.raises(DirectoryInUse, match=rf"in use by process {os.getpid()}:"):
            async with DataDirectory(tmp_path).lock():
                pass
    async with DataDirectory(tmp_path).lock():
        pass


async def test_an_unusable_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryUnusable, match="--data-dir"):
        async with DataDirectory(tmp_path / "file" / "below").lock():
            pass


async def test_services_are_private_and_gone_when_stopped(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    services = Services("redis://default:it's@127.0.0.1:1/0", "postgresql://u:p@127.0.0.1:2/d")
    assert read_services(tmp_path) is None
    async with directory.lock():
        directory.publish(services)
        assert read_services(tmp_path) == services
        for name in ("services.json", "env"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        assert _sourced(directory.shell_environment) == [services.broker, services.database]
    assert read_services(tmp_path) is None
    assert _names(tmp_path) == {"lock"}


async def test_servers_end_with_a_killed_parent_and_their_data_stay(tmp_path: Path) -> None:
    host = await _host(sys.executable, tmp_path)
    valkey_url, _ = await _urls(host)
    servers = psutil.Process(host.pid).children(recursive=True)
    assert {"valkey-server", "postgres"} <= {server.name() for server in servers}
    async with Redis.from_url(valkey_url) as client:
        await client.set("kept", "yes")

    host.kill()
    await host.wait()

    again = await _host(sys.executable, tmp_path)  # at once, while the old ones are still ending
    valkey_url, _ = await _urls(again)
    async with Redis.from_url(valkey_url) as client:
        assert await client.get("kept") == b"yes"
    assert not [server for server in servers if _runs(server)]
    await _end(again)


@pytest.fixture
def ordinary_user() -> pwd.struct_passwd:
    if os.geteuid() != 0:
        pytest.skip("all other tests run as an ordinary user already")
    return pwd.getpwnam("nobody")


@pytest.fixture
def home(ordinary_user: pwd.struct_passwd) -> Iterator[Path]:
    """A directory that the user may enter; pytest's own are root's."""
    with tempfile.TemporaryDirectory(prefix="redfaust-test-") as directory:
        os.chown(directory, ordinary_user.pw_uid, ordinary_user.pw_gid)
        yield Path(directory)


async def test_as_an_ordinary_user(ordinary_user: pwd.struct_passwd, home: Path) -> None:
    python = _python_for(ordinary_user)
    if python is None:
        pytest.skip("no Python that an ordinary user may run can use this environment")
    host = await _host(python, home / "data", ordinary_user)
    try:
        _, postgres_url = await _urls(host)
        servers = psutil.Process(host.pid).children()
        assert len(servers) == 2
        assert {server.uids().real for server in servers} == {ordinary_user.pw_uid}
        connection = await asyncpg.connect(postgres_url)
        await connection.close()
        with pytest.raises(DirectoryUnusable, match="another user"):
            async with DataDirectory(home / "data").lock():
                pass
    finally:
        await _end(host)


async def test_as_root_postgres_is_nobody_even_below_a_private_directory(
    tmp_path: Path, ordinary_user: pwd.struct_passwd
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    async with running_postgres(private / "postgres") as postgres:
        process = psutil.Process(postgres.server.process.pid)
        assert process.uids().real == ordinary_user.pw_uid
        assert process.gids().real == grp.getgrgid(ordinary_user.pw_gid).gr_gid
        assert Path(process.cwd()) == private / "postgres" / "data"


@pytest.fixture
def private_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("private_umask", "ordinary_user")
async def test_as_root_with_a_private_umask_postgres_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Below a directory that all may enter, which pytest's is not.
    with tempfile.TemporaryDirectory(prefix="redfaust-test-") as directory:
        os.chmod(directory, 0o755)  # noqa: PTH101
        cache = Path(directory) / "cache"
        monkeypatch.setattr(accounts, "SHARED_CACHE", cache)
        monkeypatch.setattr(accounts, "_can_run", lambda *_: False)
        async with running_postgres(tmp_path / "first"):
            pass
        for path in (cache, *cache.rglob("*")):  # as an older release has left it
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o700)
        async with running_postgres(tmp_path / "second"):
            pass


async def _host(
    python: str, directory: Path, user: pwd.struct_passwd | None = None
) -> asyncio.subprocess.Process:
    packages = [str(SOURCE), *(path for path in sys.path if path.endswith("site-packages"))]
    return await asyncio.create_subprocess_exec(
        python,
        *("-c", HOST, str(directory)),
        cwd="/",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(packages)},
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
    )


async def _urls(host: asyncio.subprocess.Process) -> tuple[str, str]:
    assert host.stdout is not None
    line = await asyncio.wait_for(host.stdout.readline(), PATIENCE)
    valkey, postgres = line.decode().split()
    return valkey, postgres


async def _end(host: asyncio.subprocess.Process) -> None:
    assert host.stdin is not None
    host.stdin.close()
    try:
        assert await asyncio.wait_for(host.wait(), PATIENCE) == 0
    finally:
        if host.returncode is None:
            host.send_signal(signal.SIGKILL)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _sourced(file: Path) -> list[str]:
    """What a shell knows that has sourced the file."""
    script = f'. {file}; echo "$REDFAUST_BROKER $REDFAUST_DATABASE"'
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    return shell.stdout.split()


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def _python_for(user: pwd.struct_passwd) -> str | None:
    """An interpreter of our version that the user may run, with our packages."""
    found = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")
    redis_package = importlib.util.find_spec("redis")
    assert redis_package is not None
    assert redis_package.origin is not None
    packages = Path(redis_package.origin).parents[1]
    for python in filter(None, [sys.executable, found]):
        try:
            tried = subprocess.run(
                [python, "-c", "import asyncpg, app.embedded"],
                cwd="/",
                env={"PYTHONPATH": f"{SOURCE}{os.pathsep}{packages}"},
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
        except PermissionError:
            continue
        if tried.returncode == 0:
            return python
    return None
