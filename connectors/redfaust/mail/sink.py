"""An SMTP server that keeps what it is sent: for trying things out, and for tests."""

from __future__ import annotations

import asyncio
import email
import email.policy
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from typing import Final
from weakref import WeakSet

from aiosmtpd.smtp import SMTP, Envelope, Session

log = logging.getLogger(__name__)
# aiosmtpd writes ten lines about every mail, addresses included.
logging.getLogger("mail.log").setLevel(logging.WARNING)

MAX_MAIL_BYTES = 1_048_576
MAX_PARTS = 20
"""Headers that say what kind a part is. Each part within another is read by a recursion."""
MAX_LINES = 25_000
"""Base64 of the largest mail needs less."""
MAX_HEADER = 4_096
"""Characters of a header that is decoded; beyond that it is kept as it stands. Decoding takes the
square of it."""
MAX_RECIPIENTS = 100
SESSION_TIMEOUT = 30.0
"""Seconds after which a silent client is disconnected."""

_PART: Final = re.compile(rb"^content-type[ \t]*:", re.IGNORECASE | re.MULTILINE)
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""An encoded word may hold them."""
_NEVER_EXISTS: Final = ".invalid"
"""RFC 2606 keeps this top-level domain free for ever, so nothing is lost by refusing it."""


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A mail as it came in."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    subject: str
    text: str


class MailSink:
    """An SMTP server on loopback, in the event loop that starts it.

    Each mail is handed to ``deliver``; where that raises, the client is told to try again later.
    Recipients under ``.invalid`` are refused for good.
    """

    def __init__(self, deliver: Callable[[ReceivedMail], Awaitable[None]]) -> None:
        self._handler = _Handler(deliver)
        self._server: asyncio.Server | None = None
        self._sessions: WeakSet[SMTP] = WeakSet()

    async def start(self, *, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen and return the URL for a :class:`~redfaust.mail.Mailer`; port 0 is any."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: self._session(loop), host, port)
        bound_host, bound_port = self._server.sockets[0].getsockname()[:2]
        return f"smtp://{bound_host}:{bound_port}"

    async def stop(self) -> None:
        """Listen no longer and hang up. Harmless if it was not started."""
        if self._server is None:
            return
        self._server.close()
        for session in self._sessions:
            if session.transport is not None:
                session.transport.close()
        await self._server.wait_closed()
        self._server = None

    def _session(self, loop: asyncio.AbstractEventLoop) -> SMTP:
        session = SMTP(
            self._handler,
            data_size_limit=MAX_MAIL_BYTES,
            hostname="localhost",
            ident="redfaust mail sink",
            timeout=SESSION_TIMEOUT,
            loop=loop,
        )
        self._sessions.add(session)
        return session


class _Handler:
    """What aiosmtpd calls; the names are its own."""

    def __init__(self, deliver: Callable[[ReceivedMail], Awaitable[None]]) -> None:
        self._deliver = deliver

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: object
    ) -> str:
        if address.rstrip(".").lower().endswith(_NEVER_EXISTS):
            return "550 5.1.2 no host under .invalid ever exists"
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        content = envelope.original_content or b""
        if len(_PART.findall(content)) > MAX_PARTS or content.count(b"\n") > MAX_LINES:
            return "554 5.6.0 too many parts or lines"
        try:
            mail = _read(envelope)
        except Exception as error:
            # Whatever a stranger has thought of: sending it again would not help.
            log.warning("a mail cannot be read (%s) and is refused", type(error).__name__)
            return "554 5.6.0 this cannot be read as a mail"
        try:
            await self._deliver(mail)
        except Exception:
            log.exception("a mail could not be kept; its sender is asked to try again")
            return "451 4.3.0 could not be kept now, try again later"
        return "250 OK"


def _read(envelope: Envelope) -> ReceivedMail:
    content = envelope.original_content or b""
    # By the old policy, which looks at a header when it is asked for, and is ten times as fast.
    message = email.message_from_bytes(content, policy=email.policy.compat32)
    fallback_id = f"<{hashlib.sha256(content).hexdigest()[:32]}@localhost>"
    return ReceivedMail(
        message_id=_header(message, "Message-ID", fallback_id).strip(),
        sender=envelope.mail_from or "",
        recipients=tuple(envelope.rcpt_tos),
        subject=_header(message, "Subject", ""),
        text=_text(message).replace("\r\n", "\n"),
    )


def _header(message: Message, name: str, otherwise: str) -> str:
    """As it is to be read, in one line; as it stands there if it cannot be decoded."""
    value = str(message.get(name, otherwise)).replace("\r\n", "")
    if len(value) <= MAX_HEADER:
        with suppress(HeaderParseError, LookupError, ValueError):
            value = str(make_header(decode_header(value)))
    return _CONTROL.sub("\ufffd", value[:MAX_HEADER])


def _text(message: Message) -> str:
    """The plain text, or else the first that is any."""
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    parts.sort(key=lambda part: part.get_content_subtype() != "plain")
    for part in parts:
        payload = part.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
        try:
            return content.decode(part.get_content_charset("utf-8"), "replace")
        except LookupError:  # a charset that nobody knows
            return content.decode("utf-8", "replace")
    return ""
