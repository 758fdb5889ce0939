"""Names and texts as they stand in a statement that has to be put together."""

from __future__ import annotations


def identifier(name: str) -> str:
    """A name of a schema, table, column or index."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text constant."""
    return "'" + text.replace("'", "''") + "'"
