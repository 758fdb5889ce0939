"""One id for everything that follows from a request: read from ``X-Correlation-ID``, or made."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Final
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web.errors import invalid

logger = logging.getLogger(__name__)

HEADER: Final = "X-Correlation-ID"
MAX_LENGTH = 128
_PRINTABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class Correlation:
    """ASGI middleware: puts the id into ``request.state``, and on every answer.

    It is the outermost, so an exception that nobody expected is answered here, and logged with
    the id that the client sees.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER)
        acceptable = given is None or (
            len(given) <= MAX_LENGTH and _PRINTABLE.fullmatch(given) is not None
        )
        correlation_id = given if given is not None and acceptable else str(uuid4())
        scope.setdefault("state", {})["correlation_id"] = correlation_id
        started = False

        async def marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[HEADER] = correlation_id
            await send(message)

        if not acceptable:
            await _not_acceptable(scope, receive, marked)
            return
        try:
            await self._app(scope, receive, marked)
        except Exception:
            logger.exception(
                "%s %s failed, correlation id %s", scope["method"], scope["path"], correlation_id
            )
            if started:
                raise
            await _failed(scope, receive, marked)


_not_acceptable = invalid(
    (
        ("header", HEADER),
        f"must be 1 to {MAX_LENGTH} printable ASCII characters",
        "string_pattern_mismatch",
    )
)
_failed = JSONResponse(
    {"detail": f"this failed unexpectedly; the log says why beside the {HEADER} of this answer"},
    HTTPStatus.INTERNAL_SERVER_ERROR,
)
