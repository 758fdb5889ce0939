"""What may go wrong in the application.

::

    AppError
    ├── SettingsError       a REDFAUST_ variable is unknown, missing or wrong
    ├── AppIdTaken          the shop may not work under this REDFAUST_APP_ID
    ├── EmbeddedError
    │   ├── DirectoryInUse      another installation works in the data directory
    │   ├── DirectoryUnusable   the data directory cannot be used by this user
    │   └── ServerFailed        an embedded server did not start
    ├── GroupUnknown        no consumer group has that name
    ├── GroupInUse          somebody works for that consumer group
    ├── SupervisorError     `redfaust up` cannot go on
    ├── PortUnusable        the web API's port is taken or not allowed
    ├── NothingToReplay     no dead letter waits of those that were asked for
    └── DemoFailed          the demo did not see what it waited for

Each message is for the person at the terminal: what is wrong and what to do next.
"""


class AppError(Exception):
    """Base of all errors of this package."""


class SettingsError(AppError):
    """A setting is unknown, missing or wrong."""


class AppIdTaken(AppError):
    """The shop may not work under this REDFAUST_APP_ID."""


class EmbeddedError(AppError):
    """Something about the embedded servers."""


class DirectoryInUse(EmbeddedError):
    """Another installation works in the data directory."""


class DirectoryUnusable(EmbeddedError):
    """The data directory cannot be used by this user."""


class ServerFailed(EmbeddedError):
    """An embedded server did not start; the end of its log is in the message."""


class GroupUnknown(AppError):
    """No consumer group has that name."""


class GroupInUse(AppError):
    """Somebody works for that consumer group."""


class SupervisorError(AppError):
    """The supervisor cannot go on."""


class NothingToReplay(AppError):
    """No dead letter waits of those that were asked for."""
