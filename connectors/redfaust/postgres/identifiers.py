"""Names and texts as they stand in a statement that has to be put together."""

from __future__ import annotations

from hashlib import blake2b

LONGEST_NAME = 63
"""Bytes of a name in Postgres, which cuts longer ones off without a word."""

_HASHED = 5
"""Bytes of the hash that stands for what is cut off."""


def stored_name(name: str) -> str:
    """A name as Postgres keeps it: one that is too long is cut off and ends in a hash of all of it,
    so that different names stay different.

    Raises ValueError for a name that Postgres cannot have.
    """
    if not name or "\x00" in name:
        raise ValueError(f"{name!r} cannot be a name in Postgres: it is empty, or has a NUL")
    encoded = name.encode()
    if len(encoded) <= LONGEST_NAME:
        return name
    digest = _hash(name)
    return f"{encoded[: LONGEST_NAME - len(digest) - 1].decode(errors='ignore')}_{digest}"


def index_name(table: str, column: str) -> str:
    """The name of the index of a column: tables and indexes share their names, so it ends in a
    hash, as no table's name does that somebody chooses."""
    digest = _hash(f"{table}\x00{column}")
    kept = f"{table}_{column}".encode()[: LONGEST_NAME - len(digest) - 1]
    return f"{kept.decode(errors='ignore')}_{digest}"


def identifier(name: str) -> str:
    """A name of a schema, table, column or index, quoted."""
    return '"' + stored_name(name).replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text constant."""
    return "'" + text.replace("'", "''") + "'"


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=_HASHED).hexdigest()
