"""Mail that is sent once: what the server has taken is on record.

::

    send ──lock──▶ on record? ──no──▶ the server takes it ──▶ on record ──commit──▶ done
                        └─────────────────────yes───────────────────────────────────▶ done

Between the server's answer and the commit of the record lies a moment that nobody outside the
server can close: whoever dies in it leaves a mail that is sent a second time, with the same
Message-ID. Everything else sends it once: a repeated event, a retry, a crash before or after, and
two processes at the same time.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

from connectors import crash
from connectors.errors import DatabaseUnavailable, MailUnavailable
from connectors.mail.mailer import SEND_TIMEOUT, Mail, Mailer
from connectors.postgres.database import Connection, Database
from connectors.postgres.queries import load

KEPT_FOR: Final = timedelta(days=30)
"""How long a mail is on record at least; its key sends nothing until then."""
AT_ONCE = 4
"""Mails on their way at a time. Each has a connection of the database meanwhile."""
LOCK_TIMEOUT = SEND_TIMEOUT + 5.0
"""Seconds to wait for somebody else who is sending the same mail."""
RECORD_FOR = 60.0
"""Seconds for which it is tried to put a mail on record while the database is away."""
RETRY_EVERY = 0.5
"""Seconds between two such attempts."""
CLOSE_TIMEOUT = 5.0
"""Seconds that :meth:`RecordedMailer.close` leaves to mails on their way."""


class RecordedMailer:
    """A :class:`~connectors.mail.Mailer` that sends no mail twice, as far as that can be known.

    It needs the schema of :func:`~connectors.postgres.migrate.migrate_connectors`. The lock is
    Postgres's own, of a transaction that is open while the mail is on its way: it ends with the
    process that has it.
    """

    def __init__(self, mailer: Mailer, database: Database) -> None:
        self._mailer = mailer
        self._database = database
        self._places = asyncio.Semaphore(AT_ONCE)
        self._on_their_way: set[asyncio.Task[None]] = set()

    async def send(self, mail: Mail) -> None:
        """Return when the server has taken the mail, now or when its key was used before.

        Cancelling this does not stop a mail on its way, since nobody would know then whether it
        was sent. Raises what :meth:`~connectors.mail.Mailer.send` raises, and
        :class:`~connectors.errors.DatabaseUnavailable`; if the mail was sent by then and could
        not be put on record within ``RECORD_FOR``, the next attempt sends it again.
        """
        sending = asyncio.create_task(self._send(mail))
        self._on_their_way.add(sending)
        sending.add_done_callback(self._on_their_way.discard)
        await asyncio.shield(sending)

    async def close(self) -> None:
        """Wait for mails on their way, and after ``CLOSE_TIMEOUT`` give them up."""
        if not self._on_their_way:
            return
        _, late = await asyncio.wait(self._on_their_way, timeout=CLOSE_TIMEOUT)
        for sending in late:
            sending.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _send(self, mail: Mail) -> None:
        taken = False
        async with self._places, AsyncExitStack() as conversation:
            try:
                async with self._database.transaction() as connection:
                    await self._lock(connection, mail)
                    if await connection.fetchval(_query("is_sent"), mail.idempotency_key):
                        return
                    await conversation.enter_async_context(self._mailer.sending(mail))
                    taken = True
                    crash.point("mail.taken")
                    await self._record(connection, mail)
            except DatabaseUnavailable:
                if not taken:
                    raise
                await self._record_later(mail)
            crash.point("mail.recorded")

    async def _lock(self, connection: Connection, mail: Mail) -> None:
        try:
            await connection.execute(_query("lock_key"), mail.idempotency_key, timeout=LOCK_TIMEOUT)
        except TimeoutError as error:
            raise MailUnavailable(
                f"somebody else has been sending this mail to {mail.recipient} for "
                f"{LOCK_TIMEOUT:.0f} seconds: try again to learn whether it was sent"
            ) from error

    async def _record(self, connection: Connection, mail: Mail) -> None:
        await connection.execute(
            _query("insert_sent"),
            mail.idempotency_key,
            self._mailer.message_id(mail),
            mail.recipient,
            KEPT_FOR,
        )

    async def _record_later(self, mail: Mail) -> None:
        """The connection is lost, and the lock with it: what can be saved is the record."""
        give_up_at = asyncio.get_running_loop().time() + RECORD_FOR
        while True:
            try:
                async with self._database.transaction() as connection:
                    await self._record(connection, mail)
            except DatabaseUnavailable:
                if asyncio.get_running_loop().time() >= give_up_at:
                    raise
                await asyncio.sleep(RETRY_EVERY)
            else:
                return


def _query(name: str) -> str:
    return load("connectors.mail", name)
