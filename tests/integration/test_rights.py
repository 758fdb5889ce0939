"""What each role may do, and what it is told about what it may not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, ResponseError

from app.embedded.binaries import find_postgres
from app.embedded.logins import as_role
from redfaust.brokers.broker import Outgoing, TopicSpec
from redfaust.brokers.redis.broker import RedisBroker
from redfaust.errors import RightsMissing
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import apply_migrations, migrate
from redfaust.rights import IN_REDIS, Role, users_acl
from redfaust.tables.manager import open_postgres
from redfaust.transports.by_url import broker_by_url
from tests.brokers import flush
from tests.conftest import REDIS_SERVER
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_commands import Commands
from tests.integration.test_failures_agents import all_finished
from tests.integration.test_faust_app import fetch
from tests.rights import (
    as_administrator,
    as_console,
    as_owner,
    as_producer,
    as_relay,
    as_web,
    as_worker,
    create_tables_of,
)

ROOT = Path(__file__).parents[2]
OPENER = "redfaust.tables.manager.TableManager.opener"


class Balance(BaseModel):
    """A row with columns."""

    amount: int = 0
    owner: str = ""


class Account(BaseModel):
    """The same, as an older release had it."""

    amount: int = 0


def counting(database_url: str, row: type[BaseModel] = Balance, **options: Any) -> Any:
    """An application with a table that has columns and indexes."""
    app = new_app("memory://rights", database_url, name="rights")
    numbers = app.topic("numbers", key_type=str)
    table = app.Table(
        "balances",
        key_type=str,
        value_type=row,
        default=row,
        options={"indexes": ["amount"], **options},
    )

    @app.agent(numbers)
    async def add(stream: Any) -> None:
        async for key, amount in stream.items():
            table[key] = row(amount=table[key].amount + amount)

    return app, numbers


# -- Postgres --------------------------------------------------------------------------------


async def test_a_worker_that_may_only_read_and_write_works_on_what_an_owner_created(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, numbers = counting(database_url)
    monkeypatch.setattr("redfaust.tables.manager.TableManager.opener", staticmethod(open_postgres))
    await create_tables_of(app)
    async with running(app):
        await numbers.send(key="a", value=5)
        await eventually(lambda: all_finished(app, "numbers"))
    assert await fetch(database_url, "SELECT key, amount FROM rights.balances") == [("a", 5)]


@pytest.mark.parametrize("lacks", ["everything", "a column", "an index"])
async def test_a_worker_that_may_not_create_what_is_missing_says_what_to_run(
    database_url: str, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    monkeypatch.setattr("redfaust.tables.manager.TableManager.opener", staticmethod(open_postgres))
    if lacks == "a column":
        await create_tables_of(counting(database_url, Account)[0])
    elif lacks == "an index":
        await create_tables_of(counting(database_url, indexes=[])[0])
    app, _ = counting(database_url)
    with pytest.raises(RightsMissing, match=r'"rights"\."balances".*faust -A … create-tables'):
        await app.start()
    await app.stop()


async def test_an_up_to_date_database_is_migrated_by_anybody_who_may_read(
    database_url: str,
) -> None:
    database = await Database.connect(as_console(database_url))
    assert await migrate(database) == []
    await database.close()


async def test_a_migration_that_a_role_may_not_apply_says_who_may(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE public.t (a int)")
    database = await Database.connect(database_url)
    with pytest.raises(RightsMissing, match=r"0001_first.*`redfaust migrate`.*owns the schema"):
        await apply_migrations(database, "test", tmp_path)
    await database.close()


async def test_tables_are_created_and_printed_by_a_command(
    tmp_path: Path, empty_valkey_url: str, database_url: str
) -> None:
    worker = Commands(tmp_path, empty_valkey_url, database_url)
    printed = await worker.run("create-tables", "--sql")
    assert 'CREATE TABLE IF NOT EXISTS "commanded"."balances"' in printed
    assert "create-tables" in await worker.run("create-tables", code=1)
    owner = Commands(tmp_path, empty_valkey_url, as_owner(database_url))
    assert "commanded" in await owner.run("create-tables")
    assert "Nothing is missing" in await owner.run("create-tables")
    assert await fetch(database_url, "SELECT * FROM commanded.balances") == []


STATEMENTS: Mapping[str, str] = {
    "publish": "SELECT redfaust.publish('t', 'k', '1')",
    "read": "SELECT count(*) FROM redfaust.dead_letters",
    "claim": "DELETE FROM redfaust.outbox",
    "positions": "UPDATE redfaust.positions SET position = 0",
    "sequences": "UPDATE redfaust.producers SET last_sequence = 0",
    "rows": "UPDATE rights.balances SET partition = 0",
    "read rows": "SELECT * FROM rights.balances",
    "migrations": "DELETE FROM redfaust.migrations",
    "create": "CREATE TABLE redfaust.mine (a int)",
    "create in public": "CREATE TABLE public.mine (a int)",
    "temporary": "CREATE TEMPORARY TABLE mine (a int)",
    "grant": "SELECT redfaust.grant_rights()",
}

MAY: Mapping[Role, set[str]] = {
    Role.WORKER: {"publish", "read", "claim", "positions", "sequences", "rows", "read rows"},
    Role.RELAY: {"publish", "read", "claim", "positions", "sequences"},
    Role.WEB: {"publish", "read", "read rows"},
    Role.CONSOLE: {"read", "read rows"},
}


@pytest.mark.parametrize("role", MAY, ids=str)
async def test_a_role_may_do_its_own_in_postgres_and_nothing_else(
    database_url: str, role: Role
) -> None:
    await create_tables_of(counting(database_url)[0])
    urls = {
        Role.WORKER: database_url,
        Role.RELAY: as_relay(database_url),
        Role.WEB: as_web(database_url),
        Role.CONSOLE: as_console(database_url),
    }
    connection = await asyncpg.connect(urls[role])
    may = set()
    for name, statement in STATEMENTS.items():
        try:
            await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            continue
        may.add(name)
    await connection.close()
    assert may == MAY[role]


async def call(client: Redis, *command: Any) -> Any:
    """A command, as somebody types it."""
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


# -- Redis -----------------------------------------------------------------------------------


@pytest.fixture
async def broker(broker_url: str) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker(broker_url, default_partitions=2)
    await broker.open()
    await broker.create_topic(TopicSpec("orders", 2))
    await broker.append([Outgoing("orders", b"1", b"k")])
    await broker.join("shop", ["orders"], from_start=True)
    yield broker
    await broker.close()


async def test_every_user_of_the_file_may_log_in_and_none_has_a_password_there() -> None:
    users = users_acl()
    assert set(users) == set(IN_REDIS)
    assert not any(">" in line or "#" in line or "nopass" in line for line in users.values())


@pytest.mark.parametrize("user", [as_web, as_console])
async def test_the_status_is_read_by_who_may_only_read(
    broker: RedisBroker, broker_url: str, user: Any
) -> None:
    reading = broker_by_url(user(broker_url), default_partitions=2)
    await reading.open()
    assert await reading.topics() == {"orders": 2}
    assert sum(each.lag for each in await reading.status("shop", "orders")) == 1
    assert (await reading.group_state("shop")).heartbeats == {}
    assert await reading.retentions() == {}
    await reading.close()


async def test_a_foreign_producer_appends_to_its_topics_and_does_nothing_else(
    broker: RedisBroker, broker_url: str
) -> None:
    async with Redis.from_url(as_administrator(broker_url)) as operator:
        await call(operator, "ACL", "SETUSER", Role.PRODUCER, "resetkeys", "%W~{orders:[0-9]*}")
    async with Redis.from_url(as_producer(broker_url)) as producer:
        await producer.xadd("{orders:0}", {"_v": "1"})
        refused: list[tuple[Any, ...]] = [
            ("XADD", "{payments:0}", "*", "_v", "1"),
            ("XRANGE", "{orders:0}", "-", "+"),
            ("DEL", "{orders:0}"),
            ("XTRIM", "{orders:0}", "MAXLEN", 0),
            ("HSET", "{orders:0}:producers", "x", 1),
            ("HSET", "redfaust:topics", "x", 1),
            ("GET", "redfaust:secret"),
            ("SET", "redfaust:secret", "x"),
            ("XADD", "{redfaust:shop}:assignment", "*", "assignment", "{}"),
            ("HSET", "{redfaust:shop}:heartbeats", "x", "1 1 {}"),
            ("XGROUP", "DESTROY", "{orders:0}", "shop"),
            ("EVAL", "return redis.call('XADD', KEYS[1], '*', 'a', 1)", 1, "{orders:0}"),
            ("FLUSHALL",),
            ("CONFIG", "GET", "*"),
        ]
        for command in refused:
            with pytest.raises((NoPermissionError, ResponseError)):
                await call(producer, *command)


@pytest.mark.parametrize("user", [as_web, as_console, as_relay, as_worker])
async def test_no_role_of_redis_may_do_what_an_operator_does(broker_url: str, user: Any) -> None:
    async with Redis.from_url(user(broker_url)) as client:
        for command in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("ACL", "LIST")):
            with pytest.raises(NoPermissionError):
                await call(client, *command)
        if user in (as_web, as_console):
            for command in (("GET", "redfaust:secret"), ("SET", "{orders:0}:x", "1")):
                with pytest.raises(NoPermissionError):
                    await call(client, *command)


async def test_nothing_that_a_worker_does_is_denied(broker_url: str, database_url: str) -> None:
    async with Redis.from_url(as_administrator(broker_url)) as operator:
        await call(operator, "ACL", "LOG", "RESET")
        app = new_app(broker_url, database_url)
        numbers = app.topic("numbers", key_type=str)
        counts = app.Table("counts", key_type=str, default=int)

        @app.agent(numbers)
        async def count(stream: Any) -> None:
            async for key in stream:
                counts[key] += 1

        @app.agent(numbers, delivery="shared")
        async def share(stream: Any) -> None:
            async for _ in stream:
                pass

        async with running(app):
            await numbers.send(key="a", value="a")
            await eventually(lambda: all_finished(app, "numbers"))
        denied = await call(operator, "ACL", "LOG")
    flush(as_administrator(broker_url))
    assert [entry for entry in denied if b"client|setinfo" not in entry] == []


@pytest.mark.skipif(REDIS_SERVER is None, reason="Debian's redis-server is not installed")
async def test_the_deployment_gives_each_process_its_login_in_redis(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    passwords = {f"{name}_PASSWORD": name.lower() for name in ("REDIS", "WORKER", "RELAY", "WEB")}
    acl = ROOT / "connectors/redfaust/rights/users.acl"
    process = await asyncio.create_subprocess_exec(
        *(str(ROOT / "deploy/redis/start.sh"), "--port", str(unused_tcp_port)),
        cwd=tmp_path,
        env={**os.environ, **passwords, "USERS_ACL": str(acl)},
        stdout=asyncio.subprocess.DEVNULL,
    )

    async def answers() -> bool:
        try:
            async with Redis(port=unused_tcp_port, password="redis") as client:
                return bool(await client.ping())
        except RedisConnectionError:
            return False

    try:
        await eventually(answers)
        for role in ("worker", "relay", "web"):
            login = {"username": f"redfaust_{role}", "password": role}
            async with Redis(port=unused_tcp_port, **login) as client:  # type: ignore[arg-type]
                assert await client.ping()
                with pytest.raises(NoPermissionError):
                    await client.flushall()
    finally:
        process.terminate()
        assert await process.wait() == 0


async def test_the_deployment_gives_each_process_its_login_in_postgres(
    postgres_url: str, empty_database_url: str
) -> None:
    admin = urlsplit(as_administrator(empty_database_url))
    names = ("OWNER", "WORKER", "RELAY", "WEB")
    # What the roles of the other tests have.
    passwords = {
        f"{name}_PASSWORD": urlsplit(as_role(admin.geturl(), Role[name])).password or ""
        for name in names
    }
    script = (ROOT / "deploy/postgres/roles.sh").read_text()
    script = script.replace(
        "/redfaust/roles.sql", str(ROOT / "connectors/redfaust/rights/roles.sql")
    )
    binaries = Path(find_postgres().program("psql")).parent
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", script),
        env={
            **os.environ,
            **passwords,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PGHOST": str(admin.hostname),
            "PGPORT": str(admin.port),
            "PGPASSWORD": str(admin.password),
            "POSTGRES_USER": str(admin.username),
            "POSTGRES_DB": admin.path.removeprefix("/"),
        },
    )
    assert await process.wait() == 0
    for name in names:
        connection = await asyncpg.connect(as_role(admin.geturl(), Role[name]))
        await connection.close()
