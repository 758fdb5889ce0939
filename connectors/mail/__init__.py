"""Mail: an SMTP client, and an SMTP server for places where there is none."""

from connectors.mail.mailer import Mail, Mailer
from connectors.mail.sink import MailSink, ReceivedMail

__all__ = ["Mail", "MailSink", "Mailer", "ReceivedMail"]
