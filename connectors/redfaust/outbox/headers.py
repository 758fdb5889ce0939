"""How headers lie in the database.

Written by hand, and by :meth:`Transaction.publish`, they are an object of texts, which is pleasant
to read in SQL. An object cannot hold arbitrary bytes, repeated names or an order, so headers that
must come back exactly are an array of ``[name, base64]`` instead.
"""

from __future__ import annotations

import base64
from binascii import b2a_base64
from typing import Any

import orjson

from redfaust.brokers.broker import Headers


def pack(headers: Headers) -> list[list[str]]:
    """Headers as an array that :func:`unpack` turns into the same bytes.

    Names lose what Postgres refuses in a text: NUL and lone surrogates.
    """
    return [[storable(name), b2a_base64(value, newline=False).decode()] for name, value in headers]


def unpack(stored: Any) -> Headers:
    """Headers as bytes, from either form.

    Never raises: whatever somebody wrote there by hand, the row behind it must get its turn.
    """
    if isinstance(stored, dict):
        return tuple((name, _as_bytes(value)) for name, value in stored.items())
    return tuple(_pair(entry) for entry in stored)


def storable(text: str) -> str:
    """The text without what Postgres refuses: NUL is dropped, a lone surrogate becomes ``?``."""
    if text.isascii() and "\0" not in text:  # what nearly all are
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _pair(entry: Any) -> tuple[str, bytes]:
    match entry:
        case [str(name), str(value)]:
            try:
                return name, base64.b64decode(value, validate=True)
            except ValueError:
                return name, value.encode()
        case _:
            return "", _as_bytes(entry)


def _as_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else orjson.dumps(value)
