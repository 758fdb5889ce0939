"""Every bad state shows, as what it is: on the page, the command line, in metrics and health.

An application of somebody's own runs on real servers. Each state is made, seen, and mended; then
all is well again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio
import redis.asyncio
from click.testing import CliRunner, Result
from pydantic import SecretStr

from app.cli import main
from app.settings import Settings
from app.status import judgement
from app.status.problems import Kind, Severity
from app.status.watch import PATIENCE as ANSWER_WITHIN
from app.web.application import create_web
from app.web.services import Services
from redfaust.brokers.assignor import name_of
from redfaust.brokers.attendance import BEAT_EVERY
from redfaust.brokers.broker import SILENCE, Broker, Heartbeat, Outgoing, Retention, TopicSpec
from redfaust.brokers.draining import drain
from redfaust.outbox.outbox import Outbox
from redfaust.outbox.relay_member import GROUP as RELAYS
from redfaust.postgres.database import Database
from redfaust.processing.dead_letters import DeadLetters
from redfaust.transports.by_url import broker_by_url
from tests.e2e.bank import (
    APP,
    GIVE_UP,
    PARTITIONS,
    TRY_AGAIN,
    UNREADABLE,
    Place,
    Processes,
    new_app,
)
from tests.e2e.servers import Servers, running_servers
from tests.rights import as_administrator, as_worker, create_tables_of

SHOWS_WITHIN = 10.0
"""Seconds from a state's beginning until it has to show, on a machine with nothing else to do."""
PATIENCE = 45.0
"""Seconds after which something that should show counts as not showing."""
OPTIONS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Seen(NamedTuple):
    """What each way of looking shows."""

    kinds: frozenset[str]
    page: str
    command: Result
    metrics: str
    ready: httpx.Response


@dataclass
class World:
    """The application, its servers, and those who look at it."""

    servers: Servers
    settings: Settings
    processes: Processes
    database: Database
    broker: Broker
    flags: Path
    client: httpx.AsyncClient

    @property
    def redis(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(
            as_administrator(self.settings.broker.get_secret_value())
        )

    async def config(self, **values: str) -> None:
        async with self.redis as client:
            for name, value in values.items():
                await client.config_set(name.replace("_", "-"), value)

    async def execute(self, *statements: str) -> None:
        """Execute statements, each in a transaction of its own that may write."""
        connection = await asyncpg.connect(
            as_administrator(self.settings.database.get_secret_value())
        )
        try:
            await connection.execute("SET default_transaction_read_only = off")
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def send(self, topic: str, value: object, key: str = "ann") -> None:
        await self.broker.append([Outgoing(topic, str(value).encode(), key.encode())])

    def run(self, *arguments: str) -> Result:
        environ = {
            "REDFAUST_BROKER": self.settings.broker.get_secret_value(),
            "REDFAUST_DATABASE": self.settings.database.get_secret_value(),
            "REDFAUST_APP_ID": self.settings.app_id,
        }
        return CliRunner().invoke(main, list(arguments), env=environ)

    async def command(self, *arguments: str) -> Result:
        return await asyncio.to_thread(self.run, *arguments)

    async def kinds(self) -> frozenset[str]:
        status = (await self.client.get("/api/status")).json()
        return frozenset(problem["kind"] for problem in status["problems"])

    async def look(self) -> Seen:
        return Seen(
            await self.kinds(),
            (await self.client.get("/")).text,
            await self.command("status"),
            (await self.client.get("/metrics")).text,
            await self.client.get("/health/ready"),
        )

    async def until(self, holds: Callable[[frozenset[str]], bool], what: str) -> None:
        """Wait until the kinds of problems are as they should be."""
        seen: frozenset[str] = frozenset()
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds(seen := await self.kinds()):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
        except TimeoutError:
            output = (await self.command("status")).output
            pytest.fail(f"{what}: there are {sorted(seen)}\n{output}")

    async def is_well(self) -> None:
        await self.until(lambda kinds: not kinds, "something stays wrong")

    async def member(self, group: str, name: str) -> None:
        """Wait until a process is a member of a group."""
        async with asyncio.timeout(PATIENCE):
            while True:
                members = (await self.broker.group_state(group)).assignment.members
                if name in map(name_of, members):
                    return
                await asyncio.sleep(0.05)

    def relay(self, name: str) -> str:
        """Under which name a relay is known."""
        return f"relay-{socket.gethostname()}-{self.processes.pid(name)}"


# -- the states ------------------------------------------------------------------------------

Make = Callable[[World], AbstractAsyncContextManager[World | None]]


@dataclass(frozen=True)
class State:
    """A bad state, and how it shows."""

    make: Make
    kinds: frozenset[Kind]
    severity: Severity
    says: str = ""
    """What one of its problems says."""


STATES: dict[str, State] = {}


def state(
    *kinds: Kind, severity: Severity = Severity.WRONG, says: str = ""
) -> Callable[[Callable[[World], AsyncIterator[World | None]]], None]:
    """Add a state to the table."""

    def add(make: Callable[[World], AsyncIterator[World | None]]) -> None:
        made = asynccontextmanager(make)
        STATES[make.__name__] = State(made, frozenset(kinds), severity, says)

    return add


STOPPED, NOTICE = Severity.STOPPED, Severity.NOTICE


@state(Kind.NO_WORKER, severity=STOPPED)
async def no_worker(world: World) -> AsyncIterator[None]:
    await world.processes.end("w-1")
    yield
    world.processes.start_worker("w-1")


@state(Kind.WORKER_LOST, says="w-2 is gone")
async def a_worker_is_killed(world: World) -> AsyncIterator[None]:
    world.processes.start_worker("w-2")
    await world.member(APP, "w-2")
    await world.processes.end("w-2", signal.SIGKILL)
    yield
    assert "is forgotten" in (await world.command("worker", "forget", "w-2")).output


@state(Kind.WORKER_LOST, says="w-2 is gone")
async def a_worker_hangs(world: World) -> AsyncIterator[None]:
    world.processes.start_worker("w-2")
    await world.member(APP, "w-2")
    world.processes.send("w-2", signal.SIGSTOP)
    yield
    world.processes.send("w-2", signal.SIGCONT)
    await world.is_well()  # it is back, and not lost any more
    await world.processes.end("w-2")


@state(Kind.NO_WORKER, Kind.WORKER_LOST, severity=STOPPED, says="w-1 is gone")
async def the_only_worker_is_killed(world: World) -> AsyncIterator[None]:
    await world.processes.end("w-1", signal.SIGKILL)
    yield
    world.processes.start_worker("w-1")


@state(Kind.ALL_DRAINED, Kind.PARTITIONS_UNOWNED, severity=STOPPED)
async def only_a_drained_worker_is_there(world: World) -> AsyncIterator[None]:
    world.processes.start_worker("w-2")
    await world.member(APP, "w-2")
    await drain(world.broker, APP, "w-1")
    async with asyncio.timeout(PATIENCE):
        while len((await _owners(world)).get("w-2", ())) < PARTITIONS:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await world.processes.end("w-2")
    yield
    await drain(world.broker, APP, "w-1", back=True)


async def _owners(world: World) -> dict[str, frozenset[int]]:
    assignment = (await world.broker.group_state(APP)).assignment
    return {name_of(member): assignment.owned_by(member) for member in assignment.members}


@state(Kind.WORKER_UNREADABLE, says="w-9")
async def a_worker_of_another_release(world: World) -> AsyncIterator[None]:
    async def heartbeat() -> None:
        for number in range(1, 1000):
            await world.broker.heartbeat(APP, "w-9", Heartbeat(number, info={"pid": "seven"}))
            await asyncio.sleep(1)

    beating = asyncio.create_task(heartbeat())
    yield
    beating.cancel()


@state(Kind.RELAY_LOST, says="relay")
async def a_relay_is_killed(world: World) -> AsyncIterator[None]:
    name = world.relay("relay")
    await world.processes.end("relay", signal.SIGKILL)
    yield
    world.processes.start_relay("relay")
    await world.member(RELAYS, world.relay("relay"))
    assert (await world.command("worker", "forget", "--relay", name)).exit_code == 0


@state(Kind.RELAY_LOST, says="relay")
async def a_relay_hangs(world: World) -> AsyncIterator[None]:
    world.processes.send("relay", signal.SIGSTOP)
    yield
    world.processes.send("relay", signal.SIGCONT)


@state(Kind.NO_RELAY, Kind.OUTBOX_OVERDUE, severity=STOPPED, says="1 events wait")
async def nobody_publishes(world: World) -> AsyncIterator[None]:
    async with _no_relay(world):
        await world.execute("SELECT redfaust.publish('elsewhere', 'ann', '1')")
        yield


@asynccontextmanager
async def _no_relay(world: World) -> AsyncIterator[None]:
    """Workers relay, too, so all have ended."""
    await world.processes.end("relay")
    await world.processes.end("w-1")
    yield
    world.processes.start_worker("w-1")
    world.processes.start_relay("relay")


@state(Kind.SCHEDULED_OVERDUE, Kind.NO_RELAY, severity=STOPPED)
async def what_is_scheduled_is_overdue(world: World) -> AsyncIterator[None]:
    async with _no_relay(world):
        await world.execute(
            "INSERT INTO redfaust.outbox (topic, value, available_at) VALUES "
            "('elsewhere', '1', now() - interval '1 minute')"
        )
        yield


@state(Kind.LOG_BLOCKED, says="Partition 0 of blocked is blocked")
async def a_log_is_blocked(world: World) -> AsyncIterator[None]:
    await world.broker.create_topic(TopicSpec("blocked", 1))
    async with world.redis as client:
        await client.set("{blocked:0}:producers", "x")
        yield
        await client.delete("{blocked:0}:producers")


@state(Kind.RETRYING, says="mail fails on letters")
async def a_mail_server_accepts_and_never_answers(world: World) -> AsyncIterator[None]:
    await world.send("letters", '"hello"')
    yield
    [agent] = [
        each
        for each in (await world.client.get("/api/status")).json()["agents"]
        if each["name"] == "mail"
    ]
    assert agent["processed"] == 0
    assert agent["retried"] > 0
    await _mend(world)


@state(Kind.RETRYING, says="the other bank is closed; token=***")
async def parked_events_last(world: World) -> AsyncIterator[None]:
    await world.send("numbers", TRY_AGAIN)
    yield
    await _mend(world)


@state(Kind.ROW_UNREADABLE)
async def a_row_cannot_be_read(world: World) -> AsyncIterator[None]:
    await world.send("numbers", UNREADABLE)
    yield
    await _mend(world)


async def _mend(world: World) -> None:
    mended = world.flags / "mended"
    mended.touch()
    await world.execute("UPDATE redfaust.inbox SET due_at = now() WHERE due_at IS NOT NULL")
    await world.is_well()
    mended.unlink()


@state(Kind.DEAD_LETTERS, says="1 events were given up")
async def an_event_was_given_up(world: World) -> AsyncIterator[None]:
    await world.send("numbers", GIVE_UP)
    yield
    letters = DeadLetters(world.database)
    await letters.discard(await letters.waiting(app=APP))


@state(Kind.STALLED, severity=STOPPED, says="wait for the ordered agents")
async def an_agent_is_stuck(world: World) -> AsyncIterator[None]:
    stuck = world.flags / "stuck"
    stuck.touch()
    await world.send("slow", 1)
    yield
    stuck.unlink()


@state(Kind.LATE, says="events of slow wait")
async def events_are_late(world: World) -> AsyncIterator[None]:
    slow = world.flags / "slow"
    slow.touch()
    async with world.redis as client:
        await client.delete("{slow:0}")
        await world.broker.join(APP, ["slow"], from_start=True)
        begin = int((time.time() - 600) * 1000)
        for number in range(400):
            await client.xadd("{slow:0}", {"_v": "1"}, id=f"{begin + number}-0")
    await world.processes.end("w-1")
    world.processes.start_worker("w-1")
    yield
    slow.unlink()


@state(Kind.LOCKED, says="wait for a lock")
async def workers_hang_behind_a_lock(world: World) -> AsyncIterator[None]:
    holder = await asyncpg.connect(world.settings.database.get_secret_value())
    async with holder.transaction():
        await holder.execute("SELECT FROM redfaust.positions FOR UPDATE")
        await world.send("numbers", 1)
        yield
    await holder.close()


@state(Kind.BROKER_DOWN, severity=STOPPED)
async def redis_is_down(world: World) -> AsyncIterator[None]:
    await world.servers.without_valkey()
    yield
    await world.servers.restart_valkey()


@state(Kind.BROKER_DOWN, severity=STOPPED)
async def redis_hangs(world: World) -> AsyncIterator[None]:
    pid = world.servers.valkey.server.process.pid
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


@state(Kind.BROKER_FULL, severity=STOPPED)
async def redis_has_no_memory_left(world: World) -> AsyncIterator[None]:
    await world.config(maxmemory="1")
    yield
    await world.config(maxmemory="0")


@state(Kind.BROKER_EVICTS)
async def redis_evicts(world: World) -> AsyncIterator[None]:
    await world.config(maxmemory="1gb", maxmemory_policy="allkeys-lru")
    yield
    await world.config(maxmemory="0", maxmemory_policy="noeviction")


@state(Kind.RETENTION_HELD, says="topic held keeps")
async def a_group_holds_back_what_should_go(world: World) -> AsyncIterator[None]:
    await world.broker.create_topic(TopicSpec("held", 1, Retention(entries=2)))
    await world.broker.join("elsewhere", ["held"], from_start=True)
    await world.broker.append([Outgoing("held", b"1", partition=0) for _ in range(10)])
    yield
    assert (await world.command("topics", "forget-group", "elsewhere")).exit_code == 0


@state(Kind.ANOMALY)
async def a_catalog_entry_is_bad(world: World) -> AsyncIterator[None]:
    async with world.redis as client:
        await client.hset("redfaust:topics", "evil", "abc")
        yield
        await client.hdel("redfaust:topics", "evil")


@state(Kind.DATABASE_DOWN, severity=STOPPED)
async def postgres_is_down(world: World) -> AsyncIterator[None]:
    await world.servers.without_postgres()
    yield
    await world.servers.restart_postgres()


@state(Kind.DATABASE_READ_ONLY, severity=STOPPED)
async def postgres_is_read_only(world: World) -> AsyncIterator[None]:
    await world.execute(
        "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"
    )
    yield
    await world.execute(
        "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"
    )


@state(Kind.SCHEMA_NEW, severity=STOPPED)
async def the_schema_is_newer(world: World) -> AsyncIterator[None]:
    await world.execute(
        "INSERT INTO redfaust.migrations (namespace, number, name, checksum) "
        "VALUES ('redfaust', 9999, '9999_future', 'x')"
    )
    yield
    await world.execute("DELETE FROM redfaust.migrations WHERE number = 9999")


@state(Kind.SCHEMA_OLD, severity=STOPPED)
async def the_schema_is_older(world: World) -> AsyncIterator[None]:
    await world.execute("UPDATE redfaust.migrations SET number = number - 1000")
    yield
    await world.execute("UPDATE redfaust.migrations SET number = number + 1000")


@state(Kind.RIGHTS_MISSING, severity=STOPPED, says="permission denied")
async def a_role_has_no_rights(world: World) -> AsyncIterator[World]:
    async with _as_role(world, "stranger") as other:
        yield other


@state(Kind.MAY_NOT_PUBLISH, severity=NOTICE, says="redfaust.outbox")
async def a_role_may_not_publish(world: World) -> AsyncIterator[World]:
    async with _as_role(
        world,
        "reader",
        "GRANT USAGE ON SCHEMA redfaust TO reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA redfaust TO reader",
    ) as other:
        yield other


@asynccontextmanager
async def _as_role(world: World, role: str, *grants: str) -> AsyncIterator[World]:
    """The same, looked at as another role of the database."""
    parts = urlsplit(world.settings.database.get_secret_value())
    await world.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f'GRANT CONNECT ON DATABASE "{parts.path[1:]}" TO {role}',
        *grants,
    )
    netloc = f"{role}:x@{parts.netloc.rpartition('@')[2]}"
    url = urlunsplit(parts._replace(netloc=netloc))
    settings = world.settings.model_copy(update={"database": SecretStr(url)})
    async with looking(settings) as (database, broker, client):
        yield replace(world, settings=settings, database=database, broker=broker, client=client)
    await world.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


# -- the test --------------------------------------------------------------------------------


@asynccontextmanager
async def looking(
    settings: Settings,
) -> AsyncIterator[tuple[Database, Broker, httpx.AsyncClient]]:
    """The web application on these servers."""
    database = await Database.connect(settings.database.get_secret_value())
    broker = broker_by_url(settings.broker.get_secret_value(), default_partitions=PARTITIONS)
    await broker.open()
    services = Services(database, Outbox(database), broker)
    web = create_web(settings, services, bound_to=["127.0.0.1"])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(web), base_url="http://localhost", timeout=PATIENCE
    ) as client:
        yield database, broker, client
    await broker.close()
    database.pool.terminate()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One worker, one relay, and a mail server that takes connections and says nothing."""
    flags = tmp_path_factory.mktemp("flags")
    mute = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    async with running_servers(tmp_path_factory.mktemp("servers"), OPTIONS) as servers:
        settings = Settings(
            broker=SecretStr(as_worker(servers.valkey.url)),
            database=SecretStr(as_worker(servers.postgres.url)),
            app_id=APP,
            partitions=PARTITIONS,
        )
        place = Place(
            settings.broker.get_secret_value(),
            settings.database.get_secret_value(),
            f"smtp://127.0.0.1:{port}",
            str(flags),
        )
        await create_tables_of(new_app(place))
        processes = Processes(place, settings)
        async with looking(settings) as (database, broker, client):
            world = World(servers, settings, processes, database, broker, flags, client)
            try:
                processes.start_worker("w-1")
                processes.start_relay("relay")
                await world.member(APP, "w-1")
                await world.member(RELAYS, world.relay("relay"))
                yield world
            finally:
                processes.kill_all()
    mute.close()


SHORT = {"a_worker_is_killed", "a_log_is_blocked", "a_row_cannot_be_read", "redis_is_down"}
"""States that are always tried; the others take minutes."""


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SHORT else pytest.mark.long) for name in STATES],
)
async def test_a_bad_state_shows_everywhere_as_what_it_is(world: World, name: str) -> None:
    bad = STATES[name]
    await world.is_well()
    async with bad.make(world) as other:
        at = other or world
        expected = {kind.value for kind in bad.kinds}
        # What a killed worker owned has no owner for some seconds, which is a worse state.
        passing = set() if bad.severity is STOPPED else {Kind.PARTITIONS_UNOWNED.value}
        await at.until(lambda kinds: expected <= kinds and not kinds & passing, name)
        seen = await at.look()
        for kind in expected:
            assert f'redfaust_problem{{kind="{kind}"}} 0.0' not in seen.metrics
            assert kind in seen.ready.json()["problems"]
        assert (seen.ready.status_code == 503) is (bad.severity is STOPPED)
        assert seen.command.exit_code == (0 if bad.severity is NOTICE else 1), seen.command.output
        assert seen.command.exception is None or isinstance(seen.command.exception, SystemExit)
        assert bad.severity.value in seen.page
        for shown in (seen.page, seen.command.output):
            assert bad.says in shown
            assert "hush" not in shown
        for address in ("127.0.0.1", "permission denied"):
            assert address not in seen.ready.text
    await world.is_well()


def test_there_are_twenty_bad_states_and_more() -> None:
    assert len(STATES) >= 20
    assert len({kind for state in STATES.values() for kind in state.kinds}) >= 20


def test_nothing_is_waited_for_so_long_that_it_shows_late() -> None:
    waits = (
        SILENCE + BEAT_EVERY,
        judgement.STALLED_AFTER,
        judgement.OVERDUE_AFTER,
        judgement.RETRYING_AFTER + 2.0,  # a first attempt that fails, and its pause
        judgement.UNOWNED_AFTER,
    )
    assert max(waits) + ANSWER_WITHIN < SHOWS_WITHIN
