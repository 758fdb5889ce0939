"""What a person may see of a payload: enough to recognise it, not what it keeps secret.

Masking is a courtesy to whoever looks over a shoulder or pastes into a ticket. It knows the usual
names of secrets and no others.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from redfaust.printable import printable

LENGTH = 500
"""Characters of a preview."""
MASK = "***"

_JSON_BYTES = 4_096  # larger values are shown as the text that they begin with
_TEXT_BYTES = 4 * LENGTH
_DEPTH = 20

_NAMES = "password|passwd|token|secret|card|authorization|api[_-]?key"
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
_SECRET_TEXT = re.compile(
    rf"((?:{_NAMES})[\w-]{{0,40}}[\"']?\s{{0,8}}[:=]\s{{0,8}})(\"[^\"]*\"?|'[^']*'?|[^\r\n,;&}}\]]+)",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"(?<![\w.+-])([\w.+-])[\w.+-]*@(?=\w)")


def preview(value: bytes | None) -> str:
    """A value, masked, in at most ``LENGTH`` printable characters; empty for no value."""
    if value is None:
        return ""
    if len(value) <= _JSON_BYTES:
        try:
            text = orjson.dumps(_masked(orjson.loads(value), _DEPTH)).decode()
        except orjson.JSONDecodeError:
            text = _begin(value)
    else:
        text = _begin(value)
    return _shortened(printable(text))


def preview_named(name: str, value: bytes) -> str:
    """The value of a header, masked by its name."""
    return MASK if _SECRET_NAME.search(name) else _shortened(printable(_begin(value)))


def masked_text(text: str) -> str:
    """A text with the values of secrets and the names in mail addresses masked."""
    return _EMAIL.sub(rf"\1{MASK}@", _SECRET_TEXT.sub(rf"\1{MASK}", text))


def _begin(value: bytes) -> str:
    return masked_text(value[:_TEXT_BYTES].decode("utf-8", "backslashreplace"))


def _masked(value: Any, depth: int) -> Any:
    match value:
        case str():
            return masked_text(value)
        case dict() | list() if depth == 0:
            return "…"
        case dict():
            return {
                name: MASK if _SECRET_NAME.search(name) else _masked(inner, depth - 1)
                for name, inner in value.items()
            }
        case list():
            return [_masked(inner, depth - 1) for inner in value]
        case _:
            return value


def _shortened(text: str) -> str:
    return text if len(text) <= LENGTH else text[: LENGTH - 1] + "…"
