"""What a request says of itself in its headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request

PRINTABLE = r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$"
MAX_KEY = 255

_IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Chosen by the client. A request repeated with the same key within 24 hours "
        "is carried out once, and answered as it was the first time.",
        min_length=1,
        max_length=MAX_KEY,
        pattern=PRINTABLE,
    ),
]
_Traceparent = Annotated[str | None, Header(description="W3C trace context, continued in events.")]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as events and repetitions are concerned."""

    correlation_id: str
    traceparent: str | None = None
    idempotency_key: str | None = None


# Not a plain function, for which each request would wait for a thread.
async def _caller(
    request: Request,
    idempotency_key: _IdempotencyKey = None,
    traceparent: _Traceparent = None,
) -> Caller:
    return Caller(request.state.correlation_id, traceparent, idempotency_key)


CallerOf = Annotated[Caller, Depends(_caller)]
"""Parameter of a route."""
