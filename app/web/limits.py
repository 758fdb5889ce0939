"""How large a request may be, and how many are worked on at a time."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 65_536
"""A hundred items with the longest names need less than a third of it."""
MAX_REQUESTS = 1000
HEALTH_PREFIX = "/health/"
"""What supervisors ask, which neither changes nor reveals anything."""
RETRY_AFTER = 2
"""Seconds that a client is asked to wait, also while broker or database are away."""


class BodyLimit:
    """ASGI middleware that reads the body up to a limit before the application runs."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = None if _announces_too_much(scope) else await _read(receive)
        except _ClientLeft:
            return  # half a request is none
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
    """The whole body, or nothing if it is too large. Raises _ClientLeft if it is not complete."""
    body: bytes = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return body
    raise _ClientLeft


class _ClientLeft(Exception):
    """The client has gone before its request was complete."""


class RequestLimit:
    """ASGI middleware that answers 503 while too many requests are worked on; health goes on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"].startswith(HEALTH_PREFIX):
            await self._app(scope, receive, send)
            return
        if self._count >= MAX_REQUESTS:
            await _too_many(scope, receive, send)
            return
        self._count += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._count -= 1


_too_large = JSONResponse(
    {"detail": f"a request may have {MAX_BODY_BYTES} bytes"},
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    headers={"Connection": "close"},
)
_too_many = JSONResponse(
    {"detail": "too many requests at a time; try again in a few seconds"},
    HTTPStatus.SERVICE_UNAVAILABLE,
    headers={"Retry-After": str(RETRY_AFTER)},
)
