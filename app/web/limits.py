"""How large a request may be."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 65_536
"""A hundred items with the longest names need less than a third of it."""


class BodyLimit:
    """ASGI middleware that reads the body up to a limit before the application runs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = None if _announces_too_much(scope) else await _read(receive)
        if body is None:
            await _too_large(scope, receive, send)
            return
        first: Message | None = {"type": "http.request", "body": body, "more_body": False}

        async def replayed() -> Message:
            nonlocal first
            message, first = first, None
            return message if message is not None else await receive()

        await self._app(scope, replayed, send)


def _announces_too_much(scope: Scope) -> bool:
    length = Headers(scope=scope).get("content-length", "")
    return length.isdecimal() and int(length) > MAX_BODY_BYTES


async def _read(receive: Receive) -> bytes | None:
    """The whole body, or nothing if it is too large. A client that left has sent all it will."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            break
    return body


_too_large = JSONResponse(
    {"detail": f"a request may have {MAX_BODY_BYTES} bytes"},
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    headers={"Connection": "close"},
)
