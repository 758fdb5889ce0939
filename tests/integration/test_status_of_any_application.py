"""Status, web and migrate serve any application, and show the shop where it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from app.cli import main
from app.schema import migrate_all
from app.settings import Settings
from app.web.application import create_web
from app.web.services import Services, open_services
from redfaust.brokers.assignor import GroupAssignment
from redfaust.brokers.broker import Heartbeat, TopicSpec
from redfaust.postgres.database import Database
from redfaust.transports.by_url import broker_by_url
from tests.rights import as_administrator, as_owner


async def run(broker: str, database: str, *arguments: str, app: str = "bank") -> Result:
    environ = {
        "REDFAUST_BROKER": broker,
        "REDFAUST_DATABASE": database,
        "REDFAUST_APP_ID": app,
    }
    return await asyncio.to_thread(CliRunner().invoke, main, list(arguments), env=environ)


async def looked_at(services: Services, settings: Settings, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(create_web(settings, services, bound_to=["127.0.0.1"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(as_administrator(database_url))
    yield connection
    await connection.close()


async def test_another_application_gets_no_tables_of_the_shop(
    empty_valkey_url: str, database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    result = await run(empty_valkey_url, as_owner(database_url), "migrate")
    assert result.exit_code == 0
    assert "shop/" not in result.output
    assert await connection.fetchval("SELECT to_regclass('public.orders')") is None
    for command in ("status", "workers"):
        result = await run(empty_valkey_url, database_url, command)
        assert isinstance(result.exception, SystemExit | None)
        assert "o worker is running" in result.output
    assert "Recent orders" not in (await run(empty_valkey_url, database_url, "status")).output
    settings = Settings(
        broker=SecretStr(empty_valkey_url), database=SecretStr(database_url), app_id="bank"
    )
    async with open_services(settings) as services:
        page = await looked_at(services, settings, "/")
        assert page.status_code == 200
        assert "Mailbox" not in page.text
        status = (await looked_at(services, settings, "/api/status")).json()
        assert [problem["kind"] for problem in status["problems"]] == ["no_worker"]
        assert (await looked_at(services, settings, "/api/orders/o-1")).status_code == 404
        assert (await looked_at(services, settings, "/mails/1")).status_code == 503


async def test_the_command_shows_what_one_server_knows_while_the_other_is_away(
    empty_valkey_url: str, database_url: str
) -> None:
    await run(empty_valkey_url, as_owner(database_url), "migrate")
    away = "redis://127.0.0.1:1"
    result = await run(away, database_url, "status")
    assert result.exit_code == 1
    assert "STOPPED  The broker cannot be reached" in result.output
    assert "Dead letters: 0 waiting" in result.output
    result = await run(empty_valkey_url, "postgresql://u:secret@127.0.0.1:1/db", "status")
    assert result.exit_code == 1
    assert "STOPPED  The database cannot be reached" in result.output
    assert "secret" not in result.output
    assert "Topics" in result.output


async def test_what_others_wrote_commands_no_terminal(
    empty_valkey_url: str, database_url: str
) -> None:
    await run(empty_valkey_url, as_owner(database_url), "migrate")
    odd = "a\x1b]0;x\x07\n\u202eb"
    broker = broker_by_url(empty_valkey_url, default_partitions=1)
    await broker.open()
    await broker.create_topic(TopicSpec("letters", 1))
    await broker.join(f"bank/{odd}", ["letters"], from_start=True)
    await broker.heartbeat("bank", odd, Heartbeat(1, frozenset({1}), {"pid": "no\x1bne"}))
    await broker.heartbeat("redfaust.relays", odd, Heartbeat(1, info={"role": odd, "app": odd}))
    assignment = GroupAssignment((odd,), lost={odd: 1.0})
    for group in ("bank", "redfaust.relays"):
        version = (await broker.group_state(group)).version
        await broker.reassign(group, assignment, version=version, silent={})
    commands = (
        ["status"],
        ["workers"],
        ["topics", "forget-group", f"{odd}-2"],
        ["worker", "drain", f"{odd}-3"],
        ["worker", "forget", f"{odd}-4"],
        ["worker", "forget", odd],
    )
    for command in commands:
        output = (await run(empty_valkey_url, database_url, *command)).output
        assert output.replace("\n", "").isprintable(), (command, output)
        assert "a\\x1b]0;x\\x07\\n\\u202eb" in output, (command, output)
    await broker.close()


async def test_a_role_without_rights_is_told_so_and_gets_no_error(
    empty_valkey_url: str, database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    database = await Database.connect(as_owner(database_url))
    await migrate_all(database)
    await database.close()
    name = urlsplit(database_url).path[1:]
    await connection.execute("CREATE ROLE nobody_here LOGIN PASSWORD 'x'")
    await connection.execute(f'GRANT CONNECT ON DATABASE "{name}" TO nobody_here')
    await connection.execute("GRANT USAGE ON SCHEMA public TO nobody_here")
    try:
        url = "postgresql://nobody_here:x@" + database_url.rpartition("@")[2]
        settings = Settings(broker=SecretStr(empty_valkey_url), database=SecretStr(url))
        async with open_services(settings) as services:
            for path in ("/api/users/u", "/api/notifications?user_id=u"):
                answer = await looked_at(services, settings, path)
                assert answer.status_code == 503
                assert "permission denied for table" in answer.json()["detail"]
            status = await looked_at(services, settings, "/api/status")
            problems = status.json()["problems"]
            texts = " ".join(p["text"] for p in problems if p["kind"] == "rights_missing")
            assert "permission denied for schema redfaust" in texts
            ready = await looked_at(services, settings, "/health/ready")
            assert ready.status_code == 503
            assert "a right is missing" in ready.json()["reasons"]
            assert "redfaust." not in ready.text
    finally:
        await connection.execute("DROP OWNED BY nobody_here")
        await connection.execute("DROP ROLE nobody_here")


async def test_a_row_that_was_edited_by_hand_is_named_and_breaks_no_page(
    empty_valkey_url: str, database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    database = await Database.connect(as_owner(database_url))
    await migrate_all(database)
    await database.close()
    await connection.execute(
        """
        CREATE TABLE order_states (key text PRIMARY KEY, value jsonb NOT NULL);
        INSERT INTO users (user_id, email, name) VALUES ('u', 'u@example.org', 'u');
        INSERT INTO orders (order_id, user_id, items, currency, total)
            VALUES ('o-1', 'u', '[]', 'EUR', 1);
        INSERT INTO order_states VALUES ('o-1', '5');
        GRANT SELECT ON order_states TO redfaust_worker;
        """
    )
    settings = Settings(broker=SecretStr(empty_valkey_url), database=SecretStr(database_url))
    async with open_services(settings) as services:
        page = await looked_at(services, settings, "/")
        assert page.status_code == 200
        assert "Rows cannot be read: order_states o-1" in page.text
        metrics = await looked_at(services, settings, "/metrics")
        assert 'redfaust_problem{kind="row_unreadable"} 1.0' in metrics.text


async def test_large_dead_letters_hold_up_nobody(
    empty_valkey_url: str, database_url: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    database = await Database.connect(as_owner(database_url))
    await migrate_all(database)
    await database.close()
    await connection.execute(
        """
        INSERT INTO redfaust.dead_letters (
            app, agent, topic, partition, position, value, headers, error_type, error, traceback,
            attempts
        )
        SELECT 'shop', 'orders', 'orders', 0, 0,
            convert_to('{"text": "' || repeat(md5(n::text), 50000) || '"}', 'UTF8'), '[]',
            'ValueError', repeat('x', 60000), '', 1
        FROM generate_series(1, 10) AS n
        """
    )
    settings = Settings(broker=SecretStr(empty_valkey_url), database=SecretStr(database_url))
    async with open_services(settings) as services:
        page = await looked_at(services, settings, "/")
        assert len(page.text) < 100_000
        letter = await looked_at(services, settings, "/dead-letters/1")
        assert letter.status_code == 200
        assert len(letter.text) < 20_000
