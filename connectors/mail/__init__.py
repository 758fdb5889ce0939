"""Mail: an SMTP client that sends once, and an SMTP server for places where there is none."""

from connectors.mail.mailer import Mail, Mailer
from connectors.mail.recorded import RecordedMailer
from connectors.mail.sink import MailSink, ReceivedMail

__all__ = ["Mail", "MailSink", "Mailer", "ReceivedMail", "RecordedMailer"]
