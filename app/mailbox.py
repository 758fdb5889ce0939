"""Mails that the embedded sink received, so that a shop without a mail server shows its mails."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from redfaust.mail import ReceivedMail
from redfaust.postgres.database import Database
from redfaust.postgres.queries import load


class MailHeading(BaseModel):
    """A mail as it stands in a list."""

    model_config = ConfigDict(frozen=True)

    id: int
    recipient: str
    subject: str
    received_at: datetime


class StoredMail(MailHeading):
    """A mail with its text."""

    body: str


async def keep(database: Database, mails: Sequence[ReceivedMail]) -> None:
    """Store mails; one with a Message-ID that is there already is the same mail."""
    rows = [
        (mail.message_id, ", ".join(mail.recipients), mail.subject, mail.text) for mail in mails
    ]
    columns = [[_storable(text) for text in column] for column in zip(*rows, strict=True)]
    await database.fetch(load("app", "insert_mails"), *columns)


async def latest(database: Database, limit: int) -> Sequence[MailHeading]:
    """The newest first."""
    rows = await database.fetch(load("app", "select_mails"), limit)
    return [MailHeading.model_validate(dict(row)) for row in rows]


async def find(database: Database, number: int) -> StoredMail | None:
    """One mail by its number."""
    rows = await database.fetch(load("app", "select_mail"), number)
    return StoredMail.model_validate(dict(rows[0])) if rows else None


def _storable(text: str) -> str:
    """A mail may hold what Postgres refuses in a text: NUL and bytes that are no UTF-8."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()
