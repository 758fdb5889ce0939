"""Mail that is sent once: what the server has taken is on record.

::

    send ──lock──▶ on record? ──no──▶ the server takes it ──▶ on record ──▶ done
                        └────────────────────yes──────────────────────────▶ done

Between the server's answer and the commit of the record lies a moment that nobody outside the
server can close: whoever dies in it leaves a mail that is sent a second time, with the same
Message-ID. Everything else sends it once: a repeated event, a retry, a crash before or after, and
two processes at the same time.

Mails that are sent at the same time share statements. A *round* is a transaction that has locked
the keys of some, and ends when the last of them is on its way no more. Each is put on record as
soon as it is taken, whatever becomes of the others, with those that were taken meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from redfaust import failpoints
from redfaust.batch_loader import BatchLoader
from redfaust.errors import DatabaseUnavailable
from redfaust.mail.lock_batches import Rounds
from redfaust.mail.mailer import Mail, Mailer
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load

KEPT_FOR: Final = timedelta(days=30)
"""How long a mail is on record at least; its key sends nothing until then."""
AT_ONCE = 16
"""Mails on their way at a time, each over a connection of its own to the mail server."""
RECORD_FOR = 60.0
"""Seconds for which it is tried to put a mail on record while the database is away."""
RETRY_EVERY = 0.5
"""Seconds between two such attempts."""
LONGEST_KEY = 500
"""Characters of a key that is kept as it is. An entry of its index holds 2,704 bytes."""
CLOSE_TIMEOUT = 2.0
"""Seconds that :meth:`RecordedMailer.close` leaves to mails on their way."""


class RecordedMailer:
    """A :class:`~redfaust.mail.Mailer` that sends no mail twice, as far as that can be known.

    It needs the schema of :func:`~redfaust.postgres.migrate.migrate`. The lock is
    Postgres's own, of a transaction that is open while the mail is on its way: it ends with the
    process that has it.
    """

    def __init__(self, mailer: Mailer, database: Database) -> None:
        self._mailer = mailer
        self._database = database
        self._places = asyncio.Semaphore(AT_ONCE)
        self._rounds = Rounds(database)
        self._recording = BatchLoader(self._record)
        self._on_their_way: dict[str, asyncio.Task[None]] = {}

    async def send(self, mail: Mail) -> None:
        """Return when the server has taken the mail, now or when its key was used before.

        Cancelling this does not stop a mail on its way, since nobody would know then whether it
        was sent. Raises what :meth:`~redfaust.mail.Mailer.send` raises, and
        :class:`~redfaust.errors.DatabaseUnavailable`; if the mail was sent by then and could
        not be put on record within ``RECORD_FOR``, the next attempt sends it again.
        """
        key = mail.idempotency_key
        sending = self._on_their_way.get(key)
        if sending is None:
            sending = self._on_their_way[key] = asyncio.create_task(self._send(mail))
            sending.add_done_callback(lambda _: self._on_their_way.pop(key))
        await asyncio.shield(sending)

    async def close(self) -> None:
        """Wait for mails on their way, and after ``CLOSE_TIMEOUT`` give them up."""
        if self._on_their_way:
            _, late = await asyncio.wait(self._on_their_way.values(), timeout=CLOSE_TIMEOUT)
            for sending in late:
                sending.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._rounds.close()
        await self._mailer.close()

    async def _send(self, mail: Mail) -> None:
        async with self._places:
            key = _on_record(mail.idempotency_key)
            among = await self._rounds.begin(key)
            try:
                if key not in among.sent:
                    await self._mailer.send(mail)
                    failpoints.point("mail.taken")
                    await self._recording.ask(mail)
                    failpoints.point("mail.recorded")
            finally:
                among.leave()

    async def _record(self, mails: Sequence[Mail]) -> Mapping[Mail, None]:
        give_up_at = asyncio.get_running_loop().time() + RECORD_FOR
        while True:
            try:
                await self._database.fetch(
                    _query("insert_sent"),
                    [_on_record(mail.idempotency_key) for mail in mails],
                    [self._mailer.message_id(mail) for mail in mails],
                    [mail.recipient for mail in mails],
                    KEPT_FOR,
                )
            except DatabaseUnavailable:
                if asyncio.get_running_loop().time() >= give_up_at:
                    raise
                await asyncio.sleep(RETRY_EVERY)
            else:
                return {}


def _on_record(key: str) -> str:
    """The key as it is kept: a long one, or one that is no text of Postgres, by its digest. What
    could not be put on record would be sent again."""
    if len(key) <= LONGEST_KEY and key.isprintable():
        return key
    return f"sha256:{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _query(name: str) -> str:
    return load("redfaust.mail", name)
