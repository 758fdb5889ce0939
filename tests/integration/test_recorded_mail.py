"""Mails that are on record: sent once, whatever happens around the moment of sending."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import signal
import string
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from redfaust import failpoints
from redfaust.errors import MailRejected, MailUnavailable
from redfaust.mail import (
    Mail,
    Mailer,
    MailSink,
    ReceivedMail,
    RecordedMailer,
    lock_batches,
    recorded,
)
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from tests.integration.faust_apps import eventually

WELCOME = Mail("ann@example.org", "Welcome", "Hello Ann\n", None, idempotency_key="n-1")
SENDER = "shop@shop.example"
TIMEOUT = 30.0


class Server:
    """A mail server that can be made to hesitate."""

    def __init__(self) -> None:
        self.mails: list[ReceivedMail] = []
        self.refuses_for_now = False
        self.asked = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()
        self.url = ""

    async def deliver(self, mail: ReceivedMail) -> None:
        self.asked.set()
        await self.answers.wait()
        if self.refuses_for_now:
            raise ConnectionError("the disk is full")
        self.mails.append(mail)

    @property
    def message_ids(self) -> list[str]:
        return [mail.message_id for mail in self.mails]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    sink = MailSink(server.deliver)
    server.url = await sink.start()
    yield server
    await sink.stop()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
async def mailer(server: Server, database: Database) -> AsyncIterator[RecordedMailer]:
    mailer = RecordedMailer(Mailer(server.url, SENDER), database)
    yield mailer
    await mailer.close()


@pytest.fixture
async def other_mailer(server: Server, database_url: str) -> AsyncIterator[RecordedMailer]:
    """That of another process."""
    database = await Database.connect(database_url)
    mailer = RecordedMailer(Mailer(server.url, SENDER), database)
    yield mailer
    await mailer.close()
    await database.close()


async def on_record(database: Database) -> list[tuple[str, str, str]]:
    rows = await database.pool.fetch(
        "SELECT idempotency_key, message_id, recipient FROM redfaust.mails_sent ORDER BY sent_at"
    )
    return [tuple(row) for row in rows]


async def test_a_key_that_was_used_sends_nothing(
    mailer: RecordedMailer, other_mailer: RecordedMailer, server: Server, database: Database
) -> None:
    await mailer.send(WELCOME)
    await mailer.send(WELCOME)
    await other_mailer.send(WELCOME)
    [mail] = server.mails
    assert await on_record(database) == [("n-1", mail.message_id, "ann@example.org")]
    another = Mail("ann@example.org", "Welcome", "Hello\n", None, idempotency_key="n-2")
    await mailer.send(another)
    assert len(server.mails) == 2


async def test_what_the_server_did_not_take_is_not_on_record(
    mailer: RecordedMailer, server: Server, database: Database
) -> None:
    server.refuses_for_now = True
    with pytest.raises(MailUnavailable):
        await mailer.send(WELCOME)
    nobody = Mail("bob@nowhere.invalid", "Hi", "text", None, idempotency_key="n-2")
    with pytest.raises(MailRejected):
        await mailer.send(nobody)
    assert await on_record(database) == []
    server.refuses_for_now = False
    await mailer.send(WELCOME)
    assert len(server.mails) == 1


async def test_two_at_the_same_time_send_one(
    mailer: RecordedMailer, other_mailer: RecordedMailer, server: Server, database: Database
) -> None:
    server.answers.clear()
    first = asyncio.create_task(mailer.send(WELCOME))
    await server.asked.wait()
    second = asyncio.create_task(other_mailer.send(WELCOME))
    await eventually(lambda: _somebody_waits(database))
    server.answers.set()
    await asyncio.wait_for(asyncio.gather(first, second), TIMEOUT)
    assert len(server.mails) == 1


async def test_nobody_waits_for_ever_for_the_other(
    mailer: RecordedMailer,
    other_mailer: RecordedMailer,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_batches, "LOCK_TIMEOUT", 0.2)
    server.answers.clear()
    first = asyncio.create_task(mailer.send(WELCOME))
    await server.asked.wait()
    with pytest.raises(MailUnavailable, match="somebody else"):
        await other_mailer.send(WELCOME)
    server.answers.set()
    await first
    await other_mailer.send(WELCOME)
    assert len(server.mails) == 1


async def test_who_is_cancelled_leaves_the_mail_on_its_way(
    mailer: RecordedMailer, other_mailer: RecordedMailer, server: Server, database: Database
) -> None:
    server.answers.clear()
    sending = asyncio.create_task(mailer.send(WELCOME))
    await server.asked.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    again = asyncio.create_task(mailer.send(WELCOME))
    other = asyncio.create_task(other_mailer.send(WELCOME))
    await eventually(lambda: _somebody_waits(database))
    assert not again.done()
    server.answers.set()
    await asyncio.wait_for(asyncio.gather(again, other), TIMEOUT)
    assert len(server.mails) == 1


async def test_closing_waits_for_what_is_on_its_way_but_not_for_ever(
    mailer: RecordedMailer,
    server: Server,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.answers.clear()
    sending = asyncio.create_task(mailer.send(WELCOME))
    await server.asked.wait()
    closing = asyncio.create_task(mailer.close())
    server.answers.set()
    await asyncio.wait_for(asyncio.gather(sending, closing), TIMEOUT)
    assert len(await on_record(database)) == 1

    monkeypatch.setattr(recorded, "CLOSE_TIMEOUT", 0.1)
    server.answers.clear()
    late = asyncio.create_task(mailer.send(Mail("ann@x.org", "Hi", "text", None, "n-2")))
    await asyncio.sleep(0)
    await asyncio.wait_for(mailer.close(), TIMEOUT)
    with pytest.raises(asyncio.CancelledError):
        await late


async def test_a_connection_that_is_lost_meanwhile_costs_no_record(
    mailer: RecordedMailer, server: Server, database: Database, postgres_url: str
) -> None:
    server.answers.clear()
    sending = asyncio.create_task(mailer.send(WELCOME))
    await server.asked.wait()
    administrator = await Database.connect(postgres_url, max_size=1)
    ended = await administrator.pool.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
        (await database.pool.fetchval("SELECT current_database()")),
    )
    await administrator.close()
    assert ended
    server.answers.set()
    await asyncio.wait_for(sending, TIMEOUT)
    await mailer.send(WELCOME)
    assert len(server.mails) == 1
    assert len(await on_record(database)) == 1


async def test_what_is_on_record_for_long_is_forgotten_by_and_by(
    mailer: RecordedMailer, database: Database
) -> None:
    await database.pool.execute(
        """
        INSERT INTO redfaust.mails_sent
        SELECT 'old-' || n, '<' || n || '@x>', 'ann@example.org', now() - $1::interval
        FROM generate_series(1, 12) AS n
        """,
        recorded.KEPT_FOR + timedelta(minutes=1),
    )
    await database.pool.execute(
        """
        INSERT INTO redfaust.mails_sent
        VALUES ('young', '<y@x>', 'ann@example.org', now() - $1::interval)
        """,
        recorded.KEPT_FOR - timedelta(minutes=1),
    )
    await mailer.send(WELCOME)
    assert len(await on_record(database)) == 2 + 2
    await mailer.send(Mail("ann@example.org", "Hi", "text", None, "n-2"))
    assert {key for key, _, _ in await on_record(database)} == {"young", "n-1", "n-2"}


# Processes forked from one that has imported everything: each start saves 1.5 seconds.
_fork = multiprocessing.get_context("forkserver")
_fork.set_forkserver_preload([__name__])


def send_until_killed(point: str, smtp_url: str, database_url: str) -> None:
    """What the process does."""
    failpoints.point = failpoints.armed({failpoints.VARIABLE: point})

    async def run() -> None:
        database = await Database.connect(database_url)
        await RecordedMailer(Mailer(smtp_url, SENDER), database).send(WELCOME)

    asyncio.run(run())


@pytest.mark.parametrize(("point", "mails"), [("mail.taken", 2), ("mail.recorded", 1)])
async def test_killed_beside_the_record(
    mailer: RecordedMailer, server: Server, database_url: str, point: str, mails: int
) -> None:
    process = _fork.Process(target=send_until_killed, args=(point, server.url, database_url))
    process.start()
    await asyncio.to_thread(process.join, TIMEOUT)
    assert process.exitcode == -signal.SIGKILL
    assert len(server.mails) == 1
    for _ in range(3):
        await mailer.send(WELCOME)
    assert len(server.mails) == mails
    assert len(set(server.message_ids)) == 1


async def _somebody_waits(database: Database) -> bool:
    waiting: bool = await database.pool.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
            WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted
        )
        """
    )
    return waiting


@pytest.mark.parametrize(
    "key",
    ["".join(random.Random(1).choices(string.ascii_letters, k=20_000)), "a\0b", "\ud800"],
    ids=["long", "NUL", "surrogate"],
)
async def test_a_mail_with_any_key_is_sent_once(
    server: Server, mailer: RecordedMailer, other_mailer: RecordedMailer, key: str
) -> None:
    mail = Mail("ann@example.org", "Welcome", "Hello\n", None, idempotency_key=key)
    await mailer.send(mail)
    await other_mailer.send(mail)
    assert len(server.mails) == 1
