"""Mail out and in, through a real SMTP conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiosmtplib
import pytest

from redfaust.errors import MailError, MailRejected, MailUnavailable
from redfaust.mail import Mail, Mailer, MailSink, ReceivedMail, connections, mailer
from redfaust.mail.sink import MAX_HEADER, MAX_MAIL_BYTES

WELCOME = Mail("ann@example.org", "Welcome, Änn", "Grüße\n", None, idempotency_key="n-1")
SENDER = "The shop <shop@shop.example>"


@asynccontextmanager
async def sink(deliver: Callable[[ReceivedMail], Awaitable[None]]) -> AsyncIterator[str]:
    server = MailSink(deliver)
    url = await server.start()
    try:
        yield url
    finally:
        await server.stop()


@asynccontextmanager
async def kept() -> AsyncIterator[tuple[Mailer, list[ReceivedMail]]]:
    mails: list[ReceivedMail] = []

    async def deliver(mail: ReceivedMail) -> None:
        mails.append(mail)

    async with sink(deliver) as url:
        yield Mailer(url, SENDER), mails


@asynccontextmanager
async def server_that_says(*answers: bytes, then: bytes | None = None) -> AsyncIterator[str]:
    """A server that answers line by line, and after that always the same, or never again."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        remaining = iter(answers)
        while answer := next(remaining, then):
            writer.write(answer + b"\r\n")
            if answer.startswith(b"354"):
                await reader.readuntil(b"\r\n.\r\n")
            elif not await reader.readline():
                break
        await reader.read()
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with server:
        yield f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_mail_arrives() -> None:
    async with kept() as (outgoing, mails):
        await outgoing.send(WELCOME)
    assert mails == [
        ReceivedMail(
            message_id=outgoing.message_id(WELCOME),
            sender="shop@shop.example",
            recipients=("ann@example.org",),
            subject="Welcome, Änn",
            text="Grüße\n",
        )
    ]


async def test_a_mail_with_html_is_read_as_text() -> None:
    mail = Mail("ann@example.org", "Hi", "plain\n", "<p>rich</p>", idempotency_key="n-2")
    async with kept() as (outgoing, mails):
        await outgoing.send(mail)
    assert mails[0].text == "plain\n"


@pytest.mark.parametrize(
    "text",
    [
        *("", "Grüße\n", "no line break", "x" * 5000 + "\n", ".\n..\n"),
        "as between parts:\n--=alternative=\nor after them:\n--=alternative=--\n",
    ],
)
async def test_a_text_arrives_as_it_is(text: str) -> None:
    mail = Mail("ann@example.org", "Änn, " * 40, text, f"<p>{text}</p>", idempotency_key="n-2")
    async with kept() as (outgoing, mails):
        await outgoing.send(mail)
    assert (mails[0].subject, mails[0].text) == (mail.subject, text)


async def test_a_connection_that_rests_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEPT_FOR", 0.05)
    greeted, left = 0, asyncio.Event()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        writer.write(b"220 hi\r\n")
        while line := await reader.readline():
            if line == b"DATA\r\n":
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
            writer.write(b"250 ok\r\n")
            if line == b"QUIT\r\n":
                left.set()
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    async with server:
        outgoing = Mailer(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}", SENDER)
        await outgoing.send(WELCOME)
        await outgoing.send(WELCOME)
        assert greeted == 1
        await asyncio.wait_for(left.wait(), 5)
        await outgoing.send(WELCOME)
        assert greeted == 2
        await outgoing.close()


async def test_the_same_key_gives_the_same_message_id_and_another_key_another() -> None:
    other = Mail("ann@example.org", "Hi", "text", None, idempotency_key="n-2")
    async with kept() as (outgoing, mails):
        for mail in (WELCOME, WELCOME, other):
            await outgoing.send(mail)
    first, again, third = (mail.message_id for mail in mails)
    assert first == again
    assert first != third
    assert first.endswith("@shop.example>")


@pytest.mark.parametrize("address", ["bob@nowhere.invalid", "bob@NOWHERE.INVALID"])
async def test_a_recipient_that_never_exists_is_rejected(address: str) -> None:
    mail = Mail(address, "Hi", "text", None, idempotency_key="n-3")
    async with kept() as (outgoing, mails):
        with pytest.raises(MailRejected, match="550") as refused:
            await outgoing.send(mail)
        await outgoing.send(WELCOME)
    assert refused.value.__cause__ is not None
    assert [mail.recipients for mail in mails] == [("ann@example.org",)]


async def test_a_line_break_in_a_header_is_rejected() -> None:
    mail = Mail("ann@example.org", "Hi\nBcc: eve@example.org", "text", None, idempotency_key="n-4")
    async with kept() as (outgoing, mails):
        with pytest.raises(MailRejected, match="cannot be written"):
            await outgoing.send(mail)
    assert mails == []


async def test_a_mail_that_is_too_large_is_rejected() -> None:
    mail = Mail("ann@example.org", "Hi", "x" * MAX_MAIL_BYTES, None, idempotency_key="n-5")
    async with kept() as (outgoing, mails):
        with pytest.raises(MailRejected, match="552"):
            await outgoing.send(mail)
    assert mails == []


async def test_a_mail_that_could_not_be_kept_may_be_sent_again() -> None:
    async def fail(_mail: ReceivedMail) -> None:
        raise ConnectionError("the database is away")

    async with sink(fail) as url:
        with pytest.raises(MailUnavailable, match="451"):
            await Mailer(url, SENDER).send(WELCOME)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with kept() as (outgoing, _mails):
        pass
    with pytest.raises(MailUnavailable, match="takes no mail now") as failed:
        await outgoing.send(WELCOME)
    assert isinstance(failed.value.__cause__, OSError)


async def test_a_server_that_falls_silent_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailer, "COMMAND_TIMEOUT", 0.2)
    async with server_that_says(b"220 hello") as url:
        with pytest.raises(MailUnavailable):
            await asyncio.wait_for(Mailer(url, SENDER).send(WELCOME), 5)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ((b"220 hi", b"250 ok", b"250 ok", b"450 greylisted"), MailUnavailable),
        ((b"220 hi", b"250 ok", b"250 ok", b"554 spam"), MailRejected),
        ((b"220 hi", b"250 ok", b"550 sender unknown"), MailUnavailable),
        ((b"421 busy",), MailUnavailable),
    ],
)
async def test_answers_are_told_apart(answers: tuple[bytes, ...], error: type[MailError]) -> None:
    async with server_that_says(*answers, then=b"250 ok") as url:
        with pytest.raises(error):
            await asyncio.wait_for(Mailer(url, SENDER).send(WELCOME), 15)


@pytest.mark.parametrize("last", [b"500 what?", None], ids=["refuses", "falls silent"])
async def test_a_mail_that_was_taken_is_sent_whatever_the_server_says_last(
    last: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "GOODBYE_TIMEOUT", 0.1)
    answers = (b"220 hi", b"250 ok", b"250 ok", b"250 ok", b"354 go on", b"250 taken")
    async with server_that_says(*answers, then=last) as url:
        await asyncio.wait_for(Mailer(url, SENDER).send(WELCOME), 15)


@pytest.mark.parametrize("url", ["mail.example.org", "http://x", "smtp://", "smtp://x:port"])
def test_a_url_that_cannot_be_understood_is_refused(url: str) -> None:
    with pytest.raises(MailError, match="smtp://user:password@host:port"):
        Mailer(url, SENDER)


async def test_stopping_hangs_up_on_clients() -> None:
    server = MailSink(_never)
    url = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    assert (await reader.readline()).startswith(b"220")
    await server.stop()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def _never(_mail: ReceivedMail) -> None:
    raise AssertionError("nothing was sent")


def deep(levels: int) -> bytes:
    """Parts within parts."""
    head = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level)
        for level in range(levels)
    )
    return head + b"\r\nlost"


STRANGE = {
    "50,000 encoded words": b"Subject: " + b"=?utf-8?q?a?=\r\n " * 50_000 + b"\r\n\r\nhi\r\n",
    "deep parts": deep(5_000),
    "parts of many lines": deep(19) + b"\r\n" * 200_000,
    "mails within mails": b"Content-Type: message/rfc822\r\n\r\n" * 5_000,
}


@pytest.mark.parametrize("content", STRANGE.values(), ids=STRANGE)
async def test_a_mail_that_takes_long_to_read_is_not_read(content: bytes) -> None:
    delivered: list[ReceivedMail] = []

    async def keep(mail: ReceivedMail) -> None:
        delivered.append(mail)

    async with sink(keep) as url:
        port = urlsplit(url).port
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=port)
        async with client:
            with pytest.raises(aiosmtplib.SMTPDataError, match="too many"):
                await client.sendmail("a@x.org", ["b@x.org"], content)
            await client.noop()
    assert delivered == []


async def test_an_encoded_word_in_a_subject_is_read_as_it_was_written() -> None:
    subject = "Welcome, =?utf-8?q?=0D=0ABcc:_v@x.org?="
    async with kept() as (outgoing, mails):
        mail = Mail("ann@example.org", subject, "text", None, idempotency_key="n-6")
        await outgoing.send(mail)
    assert mails[0].subject == subject


async def test_a_subject_of_very_many_words_is_kept_as_it_stands() -> None:
    delivered: list[ReceivedMail] = []

    async def keep(mail: ReceivedMail) -> None:
        delivered.append(mail)

    words = b"=?utf-8?q?a?= " * 4 + b"\r\n "
    async with sink(keep) as url:
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=urlsplit(url).port)
        async with client:
            content = b"Subject: " + words * 12_500 + b"\r\n\r\nhi\r\n"
            await client.sendmail("a@x.org", ["b@x.org"], content)
    assert delivered[0].subject.startswith("=?utf-8?q?a?= =?utf-8?q?a?=")
    assert len(delivered[0].subject) == MAX_HEADER


async def test_a_received_subject_is_one_line() -> None:
    delivered: list[ReceivedMail] = []

    async def keep(mail: ReceivedMail) -> None:
        delivered.append(mail)

    async with sink(keep) as url:
        client = aiosmtplib.SMTP(hostname="127.0.0.1", port=urlsplit(url).port)
        async with client:
            content = b"Subject: =?utf-8?q?a=0D=0ABcc:_v=E2=80=AEx?=\r\n\r\nhi\r\n"
            await client.sendmail("a@x.org", ["b@x.org"], content)
    assert delivered[0].subject == "a\ufffd\ufffdBcc: v\ufffdx"


@pytest.mark.parametrize("recipient", ["=?utf-8?q?a?=@x.org", "a\u202e@x.org"])
async def test_a_recipient_that_a_header_would_read_otherwise_is_rejected(recipient: str) -> None:
    mail = Mail(recipient, "Hi", "text", None, idempotency_key="n-7")
    async with kept() as (outgoing, _mails):
        with pytest.raises(MailRejected, match="cannot be written"):
            await outgoing.send(mail)
