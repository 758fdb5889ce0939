"""Names and texts that somebody else has chosen, as they may be shown in logs and on terminals."""

from __future__ import annotations


def printable(text: str, *, keep: str = "") -> str:
    """The text with everything escaped that could command a terminal, except ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in keep else char.encode("unicode_escape").decode()
        for char in text
    )
