"""Why an agent cannot process an event; the event becomes a dead letter.

::

    AgentError
    ├── UnknownOrder        a status for an order that was never placed
    ├── UnknownRecipient    a notification for somebody whose address nobody knows
    └── NoticeUnusable      a notification of which no mail can be made
"""


class AgentError(Exception):
    """Base of all errors of this package."""


class UnknownOrder(AgentError):
    """A status for an order that was never placed."""


class UnknownRecipient(AgentError):
    """A notification for somebody whose address nobody knows."""


class NoticeUnusable(AgentError):
    """A notification of which no mail can be made; the message holds no values."""
