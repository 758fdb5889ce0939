"""Types of fields that events, rows and requests share, with their bounds."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import from_json

T = TypeVar("T")

MAX_QUANTITY = 10_000
MAX_UNIT_PRICE = 10**12
"""Minor units. 100 items of the largest quantity and price still fit a 64-bit integer."""
MAX_ITEMS = 100
MAX_NOTE = 1000

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Also what turns the direction of the text around it, so that it reads as another one."""
_ENCODED_WORD = "=?"
"""How RFC 2047 begins a word of a mail's header that readers decode, line breaks included."""

# What browsers accept for <input type=email>, so that a form and the API agree:
# https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_EMAIL = rf"^[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*$"


def _without_control_characters(text: str) -> str:
    """Postgres refuses NUL, and a line break would end a mail header."""
    if not text.isprintable() and _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


def _without_encoded_words(text: str) -> str:
    if _ENCODED_WORD in text:
        raise ValueError(f"must not contain {_ENCODED_WORD}, which begins an encoded word")
    return text


def printable(text: str) -> str:
    """The text in one line, without what :data:`Line` refuses."""
    return " ".join(_CONTROL.sub(" ", text).replace(_ENCODED_WORD, "= ?").split())


def _read_text_as_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return from_json(value, allow_inf_nan=False)  # integers of any size
    except ValueError as error:
        raise ValueError("is text, but not the text of a JSON value") from error


FromText = Annotated[T, BeforeValidator(_read_text_as_json)]
"""A field that is no text. A foreign producer may write it as JSON text all the same: fields of
a Redis entry are always text (``quantity 2 items '[{"sku": …}]'``)."""

Line = Annotated[
    str,
    Field(min_length=1, max_length=200),
    AfterValidator(_without_control_characters),
    AfterValidator(_without_encoded_words),
]
"""One line of text for people, which may stand in the subject of a mail."""

Note = Annotated[str, Field(max_length=MAX_NOTE), AfterValidator(_without_control_characters)]
"""A sentence or two, such as the text of an error."""

Id = Annotated[
    str, Field(min_length=1, max_length=128), AfterValidator(_without_control_characters)
]
"""What an entity is known by; also the key that its events are partitioned by."""

CartNumber = Annotated[int, Field(strict=True, ge=0, le=2**53)]
"""How many times the cart of a user was replaced."""

Email = Annotated[
    str, Field(max_length=254, pattern=_EMAIL), AfterValidator(_without_encoded_words)
]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
"""ISO 4217, such as ``EUR``."""
Quantity = Annotated[int, Field(strict=True, ge=1, le=MAX_QUANTITY)]
Amount = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
"""Minor units: a sum of prices."""
UnitPrice = Annotated[int, Field(strict=True, ge=0, le=MAX_UNIT_PRICE)]
"""Minor units (cents)."""
