"""Mail out, over SMTP."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib

from redfaust.errors import MailError, MailRejected, MailUnavailable
from redfaust.mail.composing import compose
from redfaust.mail.connections import Connection, Connections

COMMAND_TIMEOUT = 10.0
"""Seconds to wait for one answer of the server."""
SEND_TIMEOUT = 30.0
"""Seconds for a mail as a whole, connecting included."""
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
    """Hands mails to an SMTP server. Connections are kept for those that follow at once.

    ``url`` is ``smtp://[user:password@]host[:port]``, with STARTTLS where the server offers it,
    or ``smtps://…``. ``sender`` is an address, with or without a name.
    """

    def __init__(self, url: str, sender: str) -> None:
        """Raises :class:`~redfaust.errors.MailError` if the URL cannot be understood."""
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError:
            raise _unusable_url() from None
        behind = parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or behind:
            raise _unusable_url()
        self._host = parts.hostname
        self._tls = parts.scheme == "smtps"
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        # As a header has it: what is no ASCII in the name is encoded.
        header = EmailMessage()
        header["From"] = sender
        self._sender = header.as_string().partition(": ")[2].strip()
        self._address = parseaddr(sender)[1]
        self._domain = self._address.rpartition("@")[2] or "localhost"
        self._connections = Connections(self._new_connection)

    async def send(self, mail: Mail) -> None:
        """Return when the server has taken the mail.

        A failure may leave open whether it did, so the same mail may arrive twice, with the same
        Message-ID. Raises :class:`~redfaust.errors.MailRejected` if the server refuses the
        recipient or the mail for good, :class:`~redfaust.errors.MailUnavailable` if trying
        again may help.
        """
        try:
            content = compose(
                sender=self._sender,
                recipient=mail.recipient,
                subject=mail.subject,
                message_id=self.message_id(mail),
                text=mail.text,
                html=mail.html,
            )
            async with asyncio.timeout(SEND_TIMEOUT):
                await self._send(mail.recipient, content)
        except ValueError as error:
            raise MailRejected(f"this cannot be written as a mail: {error}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise self._failure(error, mail.recipient) from error

    async def _send(self, recipient: str, content: bytes) -> None:
        connection = await self._connections.take()
        try:
            await connection.sendmail(
                self._address,
                recipient,
                content,
                mail_options=[] if recipient.isascii() else ["SMTPUTF8"],
            )
        except BaseException:
            # In the middle of a mail, perhaps.
            self._connections.leave(connection)
            raise
        self._connections.keep(connection)

    async def close(self) -> None:
        """Say goodbye to the server, when all mails have been sent."""
        await self._connections.close()

    def message_id(self, mail: Mail) -> str:
        """The Message-ID that a mail is sent with."""
        digest = hashlib.sha256(mail.idempotency_key.encode("utf-8", "surrogatepass")).hexdigest()[
            :32
        ]
        return f"<{digest}@{self._domain}>"

    def _new_connection(self) -> Connection:
        return Connection(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._tls,
            local_hostname=self._domain,
            timeout=COMMAND_TIMEOUT,
        )

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
