"""The logins of an embedded server: the administrator, and one for each role.

The administrator's password lies in a file. Those of the roles are made of it, so that they are the
same at each start; none of them tells another one.
"""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit, urlunsplit

from redfaust.rights import Role


def password_of(role: Role, administrators: str) -> str:
    """A role's password, made of the administrator's."""
    return hmac.new(administrators.encode(), role.encode(), hashlib.sha256).hexdigest()


def as_role(url: str, role: Role) -> str:
    """The URL by which a role logs in, from the administrator's."""
    parts = urlsplit(url)
    password = password_of(role, parts.password or "")
    hosts = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{password}@{hosts}"))
