"""The shop while all of it is killed: each order is confirmed once and mailed once."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
import redis.asyncio
from faust.types import TP
from pydantic import SecretStr

from app.agents_tables import create_agents_tables
from app.embedded.logins import as_role
from app.embedded.process import free_port
from app.schema import migrate_all
from app.settings import Settings
from models.catalogue import EVENTS
from models.events import Event, NotificationKind, NotificationRequested, OrderStatusChanged
from models.orders import OrderStatus
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.offsets import BEGINNING
from redfaust.mail import Mail, Mailer, MailSink, ReceivedMail
from redfaust.mail.recorded import AT_ONCE
from redfaust.outbox.outbox import outbox_status
from redfaust.postgres.database import Database
from redfaust.rights import Role
from redfaust.transports.by_url import broker_by_url
from tests.e2e.customers import PATIENCE, Customer, Visits
from tests.e2e.servers import Servers, running_servers
from tests.rights import as_owner
from tests.torture.processes import Process, running

SEED = 7
KILLED: Mapping[str, int] = {"worker": 6, "relay": 2, "web": 2, "valkey": 3, "postgres": 4}
"""What is killed with SIGKILL, and how often."""
CUSTOMERS = 4
APP, PARTITIONS = "shop", 4
TOPICS = ("users", "orders", "notifications")
SENT = "SELECT count(*) FROM notifications WHERE value ->> 'status' = 'sent'"
SENDER = "shop@shop.example"
NEWS_WITHIN = 6.0
"""Seconds for which a mail is waited for between two faults."""
NOT_SYNCED = {"fsync": "off", "full_page_writes": "off"}
"""It is processes that are killed: what they wrote stays with the operating system."""

E = TypeVar("E", bound=Event)


class MailServer:
    """All mails that came in; it is not killed, and counts from outside."""

    def __init__(self) -> None:
        self.mails: list[ReceivedMail] = []
        self.news = asyncio.Event()

    async def deliver(self, mail: ReceivedMail) -> None:
        self.mails.append(mail)
        self.news.set()


@pytest.mark.long
async def test_an_order_is_confirmed_once_and_mailed_once_whatever_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, visits = MailServer(), Visits()
    sink = MailSink(server.deliver)
    smtp_url = await sink.start()
    async with running_servers(tmp_path, NOT_SYNCED) as servers:
        owner = as_owner(servers.postgres.url)
        database = await Database.connect(owner)
        await migrate_all(database)
        settings = Settings(broker=SecretStr(servers.valkey.url), database=SecretStr(owner))
        await create_agents_tables(database, settings)
        await database.close()
        processes, port = shop_processes(servers, smtp_url, tmp_path)
        async with (
            running(list(processes.values())) as stop,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            closing = asyncio.Event()
            async with asyncio.TaskGroup() as customers:
                for number in range(CUSTOMERS):
                    customers.create_task(
                        Customer(client, visits, seed=SEED + number).visit_until(closing)
                    )
                await kill_at_random(processes, servers, server)
                closing.set()
            await settled(servers, visits)
            assert await stop() == [0, 0, 0], logs(processes)
        await everything_happened_once(servers, visits, server.mails)
    await sink.stop()

    again = len(server.mails) - len({mail.message_id for mail in server.mails})
    ended = {name: process.ended_by_itself for name, process in processes.items()}
    with capsys.disabled():
        print(  # noqa: T201 - how often chance has struck is worth seeing
            f"\n{len(visits.orders)} orders of {len(visits.users)} users; killed {KILLED}, "
            f"ended by themselves {ended}; {visits.repeated} requests sent again, "
            f"{visits.replayed} answered again; {len(server.mails)} mails, {again} of them again"
        )
    # Of the mails on their way when a worker dies some are taken, and not noted as sent.
    assert again <= KILLED["worker"] * AT_ONCE


def shop_processes(
    servers: Servers, smtp_url: str, directory: Path
) -> tuple[dict[str, Process], int]:
    """Worker, relay and web, and the port of the web API."""
    port = free_port()
    environ = {
        "REDFAUST_PORT": str(port),
        "REDFAUST_SMTP": smtp_url,
        "REDFAUST_MAIL_FROM": SENDER,
        "REDFAUST_LOG_LEVEL": "warning",
    }
    urls = {"REDFAUST_BROKER": servers.valkey.url, "REDFAUST_DATABASE": servers.postgres.url}
    return {
        name: Process(
            name,
            ["app", name],
            environ | {variable: as_role(url, role) for variable, url in urls.items()},
            directory,
        )
        for name, role in (("worker", Role.WORKER), ("relay", Role.RELAY), ("web", Role.WEB))
    }, port


async def kill_at_random(
    processes: Mapping[str, Process],
    servers: Servers,
    server: MailServer,
) -> None:
    """One after the other, as a rule after something has worked again."""
    choose = random.Random(SEED)
    victims = [name for name, times in KILLED.items() for _ in range(times)]
    choose.shuffle(victims)
    for victim in victims:
        server.news.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.news.wait(), NEWS_WITHIN)
        # Not a wait for anything: the moment is a random one.
        await asyncio.sleep(choose.random())
        match victim:
            case "valkey":
                await servers.kill_valkey()
            case "postgres":
                await servers.end_postgres(signal.SIGKILL)
            case "worker":
                await processes[victim].kill()
                await forget_the_dead(servers)
            case _:
                await processes[victim].kill()


async def forget_the_dead(servers: Servers) -> None:
    """A dead worker's silence would be waited for; here it is known that it is dead."""
    async with redis.asyncio.Redis.from_url(servers.valkey.url) as client:
        await client.delete(keys.assignment(APP), keys.heartbeats(APP))


async def settled(servers: Servers, visits: Visits) -> None:
    """Return when all that was promised has happened, and nothing is left to do.

    What is left is counted in the order in which it moves on, so that nothing is passed over.
    """
    database = await Database.connect(servers.postgres.url)
    broker = broker_by_url(servers.valkey.url, default_partitions=PARTITIONS)
    await broker.open()

    async def left() -> dict[str, int]:
        unsent = len(visits.orders) + len(visits.users) - await database.pool.fetchval(SENT)
        outbox = await outbox_status(database)
        topics = [await broker.status(APP, topic) for topic in TOPICS]
        return {
            "unsent": unsent,
            "unpublished": outbox.depth + outbox.scheduled,
            "lag": sum(partition.lag for partitions in topics for partition in partitions),
            "parked": await database.pool.fetchval("SELECT count(*) FROM redfaust.parked"),
        }

    counts = await left()
    try:
        async with asyncio.timeout(PATIENCE):
            while any(counts.values()):
                await asyncio.sleep(0.05)
                counts = await left()
    except TimeoutError:
        pytest.fail(f"left after {PATIENCE} seconds: {counts}")
    finally:
        await broker.close()
        await database.close()


async def everything_happened_once(
    servers: Servers, visits: Visits, mails: Sequence[ReceivedMail]
) -> None:
    """Compare what is in the tables, on the streams and in the mails with what was promised."""
    database = await Database.connect(servers.postgres.url)
    events = await all_events(servers)
    try:
        await tables_say_so(database, visits)
    finally:
        await database.close()

    each_once = dict.fromkeys(visits.orders, 1)
    said = of_type(events, OrderStatusChanged)
    assert {change.status for change in said} == {OrderStatus.CONFIRMED}
    assert Counter(change.order_id for change in said) == each_once

    requests = of_type(events, NotificationRequested)
    about_orders = [r for r in requests if r.kind is NotificationKind.ORDER_CONFIRMED]
    welcomes = [r for r in requests if r.kind is NotificationKind.WELCOME]
    assert Counter(str(request.data["order_id"]) for request in about_orders) == each_once
    assert Counter(request.user_id for request in welcomes) == dict.fromkeys(visits.users, 1)

    texts = {mail.message_id: mail.text for mail in mails}
    assert texts.keys() == {message_id(request) for request in requests}
    for request in about_orders:
        assert str(request.data["order_id"]) in texts[message_id(request)]


async def tables_say_so(database: Database, visits: Visits) -> None:
    async def column(query: str) -> list[object]:
        return [row[0] for row in await database.pool.fetch(query)]

    each_once = dict.fromkeys(visits.orders, 1)
    assert Counter(await column("SELECT user_id FROM users")) == dict.fromkeys(visits.users, 1)
    assert Counter(await column("SELECT order_id FROM orders")) == each_once
    rows = await database.pool.fetch("SELECT key, value -> 'history' AS history FROM order_states")
    histories = {row["key"]: [change["status"] for change in row["history"]] for row in rows}
    assert histories == {order: ["placed", "confirmed"] for order in visits.orders}
    carts = await database.pool.fetch("SELECT key, value -> 'items' AS items FROM carts")
    assert {row["key"]: row["items"] for row in carts} == {user: [] for user in visits.users}
    assert await column(SENT) == [len(visits.orders) + len(visits.users)]
    assert await column("SELECT error FROM redfaust.dead_letters") == []
    recipients = "SELECT recipient FROM redfaust.mails_sent"
    addresses = (
        "SELECT email FROM orders JOIN users USING (user_id) UNION ALL SELECT email FROM users"
    )
    assert Counter(await column(recipients)) == Counter(await column(addresses))


async def all_events(servers: Servers) -> list[Event]:
    """Of all topics, as they lie there."""
    broker = broker_by_url(servers.valkey.url, default_partitions=PARTITIONS)
    await broker.open()
    tps = [TP(topic, partition) for topic in TOPICS for partition in range(PARTITIONS)]
    logs = await broker.read(dict.fromkeys(tps, BEGINNING), limit=1_000_000, wait=0)
    await broker.close()
    return [
        EVENTS.parse(record.value or b"", dict(record.headers)).event
        for log in logs.values()
        for record in log
    ]


def of_type(events: Sequence[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def message_id(request: NotificationRequested) -> str:
    """Of the mail that this asks for."""
    mail = Mail("", "", "", None, idempotency_key=request.notification_id)
    return Mailer("smtp://localhost", SENDER).message_id(mail)


def logs(processes: Mapping[str, Process]) -> str:
    """What the processes have said."""
    return "\n".join(process.log.read_text() for process in processes.values())
