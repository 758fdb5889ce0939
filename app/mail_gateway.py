"""How the shop's mail goes out: to a mail server by URL, or into an embedded mailbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.mailbox import keep
from app.settings import Settings
from redfaust.batch_loader import BatchLoader
from redfaust.mail import Mail, Mailer, MailSink, ReceivedMail, RecordedMailer
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load


class MailGateway:
    """The mailer of a worker. Without a mail server it brings a sink of its own.

    It has its own connections to the database: mails on their way outlive the tables by a moment
    when a worker stops, and are put on record then.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: tuple[Database, RecordedMailer] | None = None
        self._addresses = BatchLoader(self._find_addresses)
        self._mailbox = BatchLoader(self._keep)
        self._sink: MailSink | None = None

    async def open(self) -> None:
        """Be ready to send. Raises :class:`~redfaust.errors.DatabaseError`."""
        database = await Database.connect(
            self._settings.database.get_secret_value(), application_name="redfaust post"
        )
        if self._settings.smtp is not None:
            url = self._settings.smtp.get_secret_value()
        else:
            self._sink = MailSink(self._deliver)
            url = await self._sink.start()
        mailer = RecordedMailer(Mailer(url, self._settings.mail_from), database)
        self._opened = database, mailer

    async def close(self) -> None:
        """Let mails on their way arrive, and stop. Harmless if nothing was opened."""
        if self._opened is None:
            return
        database, mailer = self._opened
        await mailer.close()
        if self._sink is not None:
            await self._sink.stop()
        await database.close()

    async def send(self, mail: Mail) -> None:
        """See :meth:`redfaust.mail.RecordedMailer.send`."""
        await self._mailer.send(mail)

    async def address_of(self, user_id: str) -> str | None:
        """The mail address of a user; ``None`` where there is no such user."""
        return await self._addresses.ask(user_id)

    async def _find_addresses(self, user_ids: Sequence[str]) -> Mapping[str, str]:
        rows = await self._database.fetch(load("app", "select_addresses"), user_ids)
        return {row["user_id"]: row["email"] for row in rows}

    async def _deliver(self, mail: ReceivedMail) -> None:
        await self._mailbox.ask(mail)

    async def _keep(self, mails: Sequence[ReceivedMail]) -> Mapping[ReceivedMail, None]:
        await keep(self._database, mails)
        return {}

    @property
    def _database(self) -> Database:
        assert self._opened is not None
        return self._opened[0]

    @property
    def _mailer(self) -> RecordedMailer:
        assert self._opened is not None
        return self._opened[1]
