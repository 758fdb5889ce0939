"""Names and texts as they stand in a statement that has to be put together."""

from __future__ import annotations

import hashlib

LONGEST = 63
"""Bytes of a name. Postgres cuts what is longer, and two names may become one."""

_DIGEST = 8
"""Hexadecimal digits that keep two long names apart."""


def stored_name(name: str) -> str:
    """The name under which Postgres keeps a schema, table, column or index: itself or, where it is
    too long, its beginning and a digest of the whole."""
    encoded = name.encode()
    if len(encoded) <= LONGEST:
        return name
    beginning = encoded[: LONGEST - _DIGEST - 1].decode(errors="ignore")
    return f"{beginning}_{digest(name)}"


def digest(text: str) -> str:
    """A few hexadecimal digits that are others for another text."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]


def identifier(name: str) -> str:
    """A name of a schema, table, column or index, shortened and quoted."""
    return '"' + stored_name(name).replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text constant."""
    return "'" + text.replace("'", "''") + "'"
