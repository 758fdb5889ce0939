"""The rights that each kind of process needs, as files for Postgres and Redis.

``roles.sql`` creates the roles of a database, ``users.acl`` has the users of a Redis. Each has five
or six names, which are those of :class:`Role`. README.md says how they are used.
"""

from __future__ import annotations

import enum
from importlib import resources


class Role(enum.StrEnum):
    """What a process does; the value is its name in Postgres and in Redis."""

    OWNER = "redfaust_owner"
    """Creates and alters schemas and tables: ``redfaust migrate``. In Postgres alone."""
    WORKER = "redfaust_worker"
    """Runs agents, and a relay."""
    RELAY = "redfaust_relay"
    """Publishes the outbox, and runs no agents."""
    WEB = "redfaust_web"
    """Writes the application's own tables and the outbox, and reads the status."""
    CONSOLE = "redfaust_console"
    """Reads."""
    PRODUCER = "redfaust_producer"
    """Not part of redfaust: appends to the topics that it is granted. In Redis alone."""


IN_POSTGRES = (Role.OWNER, Role.WORKER, Role.RELAY, Role.WEB, Role.CONSOLE)
IN_REDIS = (Role.WORKER, Role.RELAY, Role.WEB, Role.CONSOLE, Role.PRODUCER)


def roles_sql() -> str:
    """The statements that create the roles of a database, and grant them their rights."""
    return resources.files(__package__).joinpath("roles.sql").read_text(encoding="utf-8")


def users_acl() -> dict[Role, str]:
    """By user, its line of ``users.acl``. No user has a password there, so none can log in."""
    lines = resources.files(__package__).joinpath("users.acl").read_text(encoding="utf-8")
    return {Role(line.split()[1]): line for line in lines.splitlines()}
