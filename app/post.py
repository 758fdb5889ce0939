"""How the shop's mail goes out: to a mail server by URL, or into an embedded mailbox."""

from __future__ import annotations

from typing import cast

import faust

from app.mailbox import keep
from app.settings import Settings
from connectors.mail import Mail, Mailer, MailSink, ReceivedMail
from connectors.postgres.database import Database
from connectors.postgres.queries import load
from connectors.processing.backing import backing_of


class Post:
    """The mailer of a worker. Without a mail server it brings a sink of its own."""

    def __init__(self, app: faust.App, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._mailer: Mailer | None = None
        self._sink: MailSink | None = None

    async def open(self) -> None:
        """Be ready to send."""
        if self._settings.smtp is not None:
            url = self._settings.smtp.get_secret_value()
        else:
            self._sink = MailSink(self._deliver)
            url = await self._sink.start()
        self._mailer = Mailer(url, self._settings.mail_from)

    async def close(self) -> None:
        """Stop the sink, if there is one. Harmless if nothing was opened."""
        if self._sink is not None:
            await self._sink.stop()

    async def send(self, mail: Mail) -> None:
        """See :meth:`connectors.mail.Mailer.send`."""
        assert self._mailer is not None
        await self._mailer.send(mail)

    async def address_of(self, user_id: str) -> str | None:
        """The mail address of a user; ``None`` where there is no such user."""
        async with self._database.transaction() as connection:
            return cast(
                "str | None",
                await connection.fetchval(load("app", "select_address"), user_id),
            )

    async def _deliver(self, mail: ReceivedMail) -> None:
        await keep(self._database, mail)

    @property
    def _database(self) -> Database:
        backing = backing_of(self._app)
        assert backing is not None
        return backing.database
