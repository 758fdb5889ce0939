"""Workers as anybody starts them, each a process of its own, beside servers of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import redis.asyncio

from app.embedded import running_postgres, running_valkey
from app.embedded.process import die_with_parent
from app.schema import migrate_all
from models.envelope import Envelope
from models.events import UserCreated
from redfaust.brokers.broker import Broker, Outgoing, TopicSpec
from redfaust.postgres.database import Database
from redfaust.transports.by_url import broker_by_url
from tests.bench.scaling import PARTITIONS, TOPIC

PATIENCE = 60.0
"""Seconds after which what should happen counts as not happening."""

LOOK_EVERY = 0.002
"""Seconds between two looks whether an event has had its effect."""

SHOP_PARTITIONS = 4
"""Those that its topics have by default."""


class Application(NamedTuple):
    """What a worker works for, and how to see that it does."""

    name: str
    topic: str
    partitions: int
    command: Sequence[str]
    event: Callable[[str], Outgoing]
    """One whose effect is a row under this key."""
    effect: str
    """The query that finds whether that row is there."""


def _counted(key: str) -> Outgoing:
    return Outgoing(TOPIC, b"1", key.encode())


def _created(key: str) -> Outgoing:
    event = UserCreated(user_id=key, email="ada@example.org", name="Ada")
    headers = Envelope.first(event).headers().items()
    return Outgoing(
        "users",
        event.model_dump_json().encode(),
        key.encode(),
        tuple((name, text.encode()) for name, text in headers),
    )


SMALL = Application(
    "an agent and a table",
    TOPIC,
    PARTITIONS,
    (
        *("-m", "faust", "--loop", "uvloop", "-A", "tests.bench.scaling_worker"),
        *("worker", "--without-web"),
    ),
    _counted,
    "SELECT EXISTS (SELECT FROM scaling.counts WHERE key = $1)",
)
SHOP = Application(
    "the shop",
    "users",
    SHOP_PARTITIONS,
    ("-m", "app", "worker"),
    _created,
    "SELECT EXISTS (SELECT FROM public.profiles WHERE key = $1)",
)


class Place:
    """Servers, and a connection to each."""

    def __init__(
        self,
        directory: Path,
        urls: tuple[str, str],
        broker: Broker,
        database: asyncpg.Connection[asyncpg.Record],
    ) -> None:
        self.broker = broker
        self.database = database
        self._directory = directory
        broker_url, database_url = urls
        self._redis = redis.asyncio.Redis.from_url(broker_url)
        self._environ: Mapping[str, str] = {
            "BROKER": broker_url,
            "STORE": database_url,
            "REDFAUST_BROKER": broker_url,
            "REDFAUST_DATABASE": database_url,
            "REDFAUST_LOG_LEVEL": "warning",
            "APP_DATADIR": f"{directory}/app",
            "PYTHONDONTWRITEBYTECODE": "",  # it is there wherever redfaust is installed
        }

    @asynccontextmanager
    async def worker(self, app: Application) -> AsyncIterator[int]:
        """One that runs, by its process id; told to stop at the end, and waited for."""
        with (self._directory / "workers.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *app.command),
                env={**os.environ, **self._environ},
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        try:
            yield process.pid
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def send(self, app: Application, key: str) -> None:
        """Append an event with this key."""
        await self.broker.append([app.event(key)])

    async def effect(self, app: Application, key: str) -> None:
        """Return when the event's row can be read. The table is there."""
        async with asyncio.timeout(PATIENCE):
            while not await self.database.fetchval(app.effect, key):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_EVERY)

    async def commands(self) -> int:
        """That Redis has processed so far."""
        return int((await self._redis.info("stats"))["total_commands_processed"])

    async def close(self) -> None:
        """Disconnect."""
        await self._redis.aclose()
        await self.database.close()
        await self.broker.close()

    async def prepare(self, app: Application) -> None:
        """Have a worker start for the first time: schema, tables, groups, and files in memory."""
        await self.broker.create_topic(TopicSpec(app.topic, app.partitions))
        async with self.worker(app):
            async with asyncio.timeout(PATIENCE):
                while not await self._is_effective(app):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_EVERY)
            await self.send(app, "first")
            await self.effect(app, "first")

    async def _is_effective(self, app: Application) -> bool:
        try:
            await self.database.fetchval(app.effect, "")
        except asyncpg.UndefinedTableError:
            return False
        return True


def cpu_of(pid: int) -> float:
    """Seconds that all threads of a process have run."""
    return (
        sum(
            int((thread / "schedstat").read_text(encoding="ascii").split()[0])
            for thread in Path(f"/proc/{pid}/task").iterdir()
        )
        / 1e9
    )


@asynccontextmanager
async def place() -> AsyncIterator[Place]:
    """Servers, until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="redfaust-bench-") as name:
        directory = Path(name)
        async with (
            running_valkey(directory / "valkey") as valkey,
            running_postgres(directory / "postgres") as postgres,
        ):
            schema = await Database.connect(postgres.url)
            await migrate_all(schema)
            await schema.close()
            broker = broker_by_url(valkey.url, default_partitions=PARTITIONS)
            await broker.open()
            database = await asyncpg.connect(postgres.url)
            servers = Place(directory, (valkey.url, postgres.url), broker, database)
            yield servers
            await servers.close()
