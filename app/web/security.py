"""Who may come in: pure ASGI middleware, before anything else looks at a request.

What is really bound decides, not what a setting says of it.

==============  ===========================================================================
bound to        what is asked for
==============  ===========================================================================
loopback        a ``Host`` that means this machine, so that no foreign page reaches us by a
                name of its own that it points here (DNS rebinding); behind a proxy, which
                may let in others, the token
anything wider  the token; without one set, everything is closed
either          with a token set, the token; from a browser, changes only from our own pages
==============  ===========================================================================

``/health/*`` is open, since it neither changes nor reveals anything.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets
from collections.abc import Collection
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web.limits import HEALTH_PREFIX
from app.web.refusals import RefusedLogins

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
PROXY_HEADERS: Final = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
"""What proxies add to the requests that they hand on."""

_OWN_ONLY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Swagger's page starts itself by a script within the page.
_DOCS: Final = _OWN_ONLY.replace("'self';", "'self' 'unsafe-inline';", 2)


def is_loopback(address: str) -> bool:
    """Returns True if only this machine reaches what is bound to an address; a name is none."""
    try:
        bound = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = bound.ipv4_mapped if isinstance(bound, ipaddress.IPv6Address) else None
    return (mapped or bound).is_loopback


class Access:
    """ASGI middleware that turns away who may not come in."""

    def __init__(self, app: ASGIApp, *, bound_to: Collection[str], token: SecretStr | None) -> None:
        """``bound_to``: the addresses of the sockets, not the name that was asked for."""
        self._app = app
        self._names = LOCAL_NAMES | set(bound_to)
        self._local = bool(bound_to) and all(map(is_loopback, bound_to))
        self._refused_logins = RefusedLogins()
        self._token = token.get_secret_value().encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        if scope["path"].startswith(HEALTH_PREFIX):
            return None
        headers = Headers(scope=scope)
        if refusal := self._refusal_of_place(headers):
            return refusal
        if self._token is not None and not _shows(headers, self._token):
            if "authorization" in headers:
                self._refused_logins.note(scope)
            return _refused(
                HTTPStatus.UNAUTHORIZED,
                "the token is missing or wrong: send Authorization: Bearer, "
                "or log in with it as the password",
                {"WWW-Authenticate": 'Basic realm="redfaust", charset="UTF-8"'},
            )
        if scope["method"] not in SAFE_METHODS and not _from_own_page(headers):
            return _refused(
                HTTPStatus.FORBIDDEN, "a page of another origin may not change anything here"
            )
        return None

    def _refusal_of_place(self, headers: Headers) -> ASGIApp | None:
        """The refusal of a request by the way it came, whatever login it shows."""
        if self._local and _host_name(headers.get("host", "")) not in self._names:
            return _refused(
                HTTPStatus.MISDIRECTED_REQUEST,
                "this listens for this machine alone: use localhost or 127.0.0.1",
            )
        if self._token is None and not self._local:
            return _refused(
                HTTPStatus.FORBIDDEN,
                "closed, because it can be reached from other machines and has no token: "
                "set REDFAUST_TOKEN, or REDFAUST_HOST=127.0.0.1 (and no WEB_BIND)",
            )
        if self._token is None and any(name in headers for name in PROXY_HEADERS):
            return _refused(
                HTTPStatus.FORBIDDEN,
                "closed to proxies, which may let in other machines: set REDFAUST_TOKEN",
            )
        return None


class SecurityHeaders:
    """ASGI middleware: our pages load nothing from elsewhere, and nobody frames them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                policy = _DOCS if scope["path"] == "/docs" else _OWN_ONLY
                headers["Content-Security-Policy"] = policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, guarded)


def _refused(
    status: HTTPStatus, detail: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers=headers)


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _shows(headers: Headers, token: bytes) -> bool:
    return any(
        secrets.compare_digest(shown, token)
        for value in headers.getlist("authorization")
        if (shown := _shown(value)) is not None
    )


def _shown(authorization: str) -> bytes | None:
    """The token in a header: all of ``Bearer``, the password of ``Basic``."""
    scheme, _, value = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip().encode("latin-1")
        case "basic":
            try:
                return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                return None
        case _:
            return None


def _from_own_page(headers: Headers) -> bool:
    """False for a browser that acts for a page of another origin; curl and the like say nothing.

    See https://web.dev/articles/fetch-metadata; ``Origin`` serves browsers that lack it.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("origin")
    return origin is None or _host_of(origin) == headers.get("host", "").lower()


def _host_of(origin: str) -> str | None:
    """Host and port of an origin; ``None`` for the origin ``null`` and what is none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
