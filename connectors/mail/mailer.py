"""Mail out, over SMTP."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib

from connectors.errors import MailError, MailRejected, MailUnavailable

COMMAND_TIMEOUT = 10.0
"""Seconds to wait for one answer of the server."""
SEND_TIMEOUT = 30.0
"""Seconds for a mail as a whole, connecting included."""
GOODBYE_TIMEOUT = 2.0
"""Seconds to wait for the answer to the last word."""
_REFUSED_FOR_GOOD = range(500, 600)
_TOO_LARGE = 552


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail to one recipient."""

    recipient: str
    subject: str
    text: str
    html: str | None
    """The same once more for readers that show HTML."""
    idempotency_key: str
    """Becomes the Message-ID, by which a mail that was sent twice is recognised as one."""


class Mailer:
    """Hands mails to an SMTP server, each over a connection of its own.

    ``url`` is ``smtp://[user:password@]host[:port]``, with STARTTLS where the server offers it,
    or ``smtps://…``. ``sender`` is an address, with or without a name.
    """

    def __init__(self, url: str, sender: str) -> None:
        """Raises :class:`~connectors.errors.MailError` if the URL cannot be understood."""
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError:
            raise _unusable_url() from None
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
            raise _unusable_url()
        self._host = parts.hostname
        self._tls = parts.scheme == "smtps"
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._sender = sender
        self._domain = parseaddr(sender)[1].rpartition("@")[2] or "localhost"

    async def send(self, mail: Mail) -> None:
        """Return when the server has taken the mail.

        A failure may leave open whether it did, so the same mail may arrive twice, with the same
        Message-ID. Raises :class:`~connectors.errors.MailRejected` if the server refuses the
        recipient or the mail for good, :class:`~connectors.errors.MailUnavailable` if trying
        again may help.
        """
        async with self.sending(mail):
            pass

    @asynccontextmanager
    async def sending(self, mail: Mail) -> AsyncIterator[None]:
        """Send a mail as :meth:`send` does, and run the block as soon as the server has taken it:
        before goodbye is said, which takes as long as the server likes."""
        message = self._compose(mail)
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._tls,
            local_hostname=self._domain,
            timeout=COMMAND_TIMEOUT,
        )
        try:
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await client.connect()
                    await client.send_message(message)
            except (aiosmtplib.SMTPException, OSError) as error:
                raise self._failure(error, mail.recipient) from error
            yield
        finally:
            await _leave(client)

    def message_id(self, mail: Mail) -> str:
        """The Message-ID that a mail is sent with."""
        digest = hashlib.sha256(mail.idempotency_key.encode()).hexdigest()[:32]
        return f"<{digest}@{self._domain}>"

    def _compose(self, mail: Mail) -> EmailMessage:
        message = EmailMessage()
        try:
            message["From"] = self._sender
            message["To"] = mail.recipient
            message["Subject"] = mail.subject
        except ValueError as error:
            raise MailRejected(f"this cannot be written as a mail: {error}") from error
        message["Message-ID"] = self.message_id(mail)
        message["Date"] = formatdate()
        message.set_content(mail.text)
        if mail.html is not None:
            message.add_alternative(mail.html, subtype="html")
        return message

    def _failure(self, error: Exception, recipient: str) -> MailError:
        for refusal in _refusals(error):
            if refusal.code in _REFUSED_FOR_GOOD:
                return MailRejected(
                    f"the mail server refuses {recipient}: {refusal.code} {refusal.message}; "
                    "correct the address before sending again"
                )
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return MailUnavailable(
            f"the mail server {self._host} takes no mail now ({reason}): "
            "check that it runs and lets this sender in, and send again"
        )


async def _leave(client: aiosmtplib.SMTP) -> None:
    """Say goodbye. Whatever comes of it, the mail is where it is."""
    try:
        with suppress(aiosmtplib.SMTPException, OSError):
            await client.quit(timeout=GOODBYE_TIMEOUT)
    finally:
        client.close()


def _refusals(error: Exception) -> list[aiosmtplib.SMTPResponseException]:
    """The answers that are about this mail, rather than about the sender or the server."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return list(error.recipients)
    if isinstance(error, aiosmtplib.SMTPDataError):
        return [error]
    if isinstance(error, aiosmtplib.SMTPSenderRefused) and error.code == _TOO_LARGE:
        return [error]
    return []


def _unusable_url() -> MailError:
    return MailError(
        "the mail server's URL cannot be understood: write smtp://user:password@host:port"
    )
