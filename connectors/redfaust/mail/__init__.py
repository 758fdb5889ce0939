"""Mail: an SMTP client that sends once, and an SMTP server for places where there is none."""

from redfaust.mail.mailer import Mail, Mailer
from redfaust.mail.recorded import RecordedMailer
from redfaust.mail.sink import MailSink, ReceivedMail

__all__ = ["Mail", "MailSink", "Mailer", "ReceivedMail", "RecordedMailer"]
