"""Lists in pages: each answer says where the next one begins."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, NamedTuple, Self

from fastapi import Query
from pydantic import AfterValidator

MAX_PAGE: Final = 100
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


class Cursor(NamedTuple):
    """The last row of a page, in a list that is ordered by time and key."""

    at: datetime
    key: str

    def __str__(self) -> str:
        text = f"{(self.at - _EPOCH) // timedelta(microseconds=1)}/{self.key}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for what no answer has given."""
        try:
            decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            at, slash, key = decoded.decode().partition("/")
        except ValueError:
            at, slash, key = "", "", ""
        is_number = at.isascii() and at.isdecimal() and len(at) <= len(str(_LATEST))
        if not (slash and is_number and int(at) < _LATEST) or "\0" in key:
            raise ValueError("is no cursor: send the `next` of the answer before, as it is")
        return cls(_EPOCH + timedelta(microseconds=int(at)), key)


def _is_cursor(text: str) -> str:
    Cursor.parse(text)
    return text


Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Of one page.")]
After = Annotated[
    str | None,
    Query(description="The `next` of the page before.", max_length=512),
    AfterValidator(lambda text: text if text is None else _is_cursor(text)),
]
"""Parameters of a route."""
