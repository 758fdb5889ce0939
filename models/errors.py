"""What may be wrong with what the models are given.

::

    ModelError
    ├── EventError
    │   ├── UnknownEventType       no event of this name is registered
    │   ├── UnknownEventVersion    the name is known, this version of it is not
    │   │   └── NewerEventVersion  nor could it be: a newer release has written it
    │   └── InvalidEvent           the body or the envelope does not fit; names the field
    └── IllegalTransition          a status may not follow the one before it
"""


class ModelError(Exception):
    """Base of all errors of this package."""


class EventError(ModelError):
    """An entry of a topic is no event that this release knows."""


class UnknownEventType(EventError):
    """No event of this name is registered."""


class UnknownEventVersion(EventError):
    """The name is known, this version of it is not."""


class NewerEventVersion(UnknownEventVersion):
    """A newer release than this one has written the event."""


class InvalidEvent(EventError):
    """The body or the envelope does not fit; the message names the field."""


class IllegalTransition(ModelError):
    """A status may not follow the one before it."""
