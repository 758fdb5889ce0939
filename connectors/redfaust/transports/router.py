"""Requests that are answered by the worker that has their key (``@app.table_route``)."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from faust.app.router import Router as FaustRouter
from faust.exceptions import SameNode
from faust.types.tables import CollectionT
from faust.types.web import Request, Response, Web
from faust.web.exceptions import ServiceUnavailable
from yarl import URL

from redfaust.tables.table import bytes_of_key

ROUTED = "Redfaust-Routed"
"""Marks a request that another worker has passed on: it is not passed on again."""

ANSWER_WITHIN = 30.0
"""Seconds that the other worker is given."""

HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that concern one connection (RFC 9110, 7.6.1), or that the client writes itself."""


class Router(FaustRouter):
    """Faust's, which passes on neither bodies nor what is no text, and may go round in circles.

    Faust's also looks for a table's key where its JSON would be, and not where its events are.
    """

    @classmethod
    def _get_serialized_key(cls, table: CollectionT, key: Any) -> bytes:  # noqa: ARG003
        return bytes_of_key(key)

    async def _route_req(self, dest_url: URL, web: Web, request: Request) -> Response:
        if self._urlident(dest_url) == self._urlident(self.app.conf.canonical_url):
            raise SameNode
        if ROUTED in request.headers:  # the key has moved meanwhile
            raise ServiceUnavailable
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in HOP_BY_HOP and name != ROUTED
        }
        asked: Any = request
        url = request.url.with_scheme(dest_url.scheme)
        url = url.with_host(dest_url.host or "").with_port(dest_url.port)
        try:
            async with (
                asyncio.timeout(ANSWER_WITHIN),
                self.app.http_client.request(
                    method=request.method,
                    url=url,
                    headers={**headers, ROUTED: "1"},
                    data=await asked.read(),
                    allow_redirects=False,
                ) as answer,
            ):
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServiceUnavailable from error
        kept = {n: v for n, v in answer.headers.items() if n.lower() not in _OWN_TO_THE_ANSWER}
        return web.bytes(body, status=answer.status, reason=answer.reason, headers=kept)


_OWN_TO_THE_ANSWER = HOP_BY_HOP | {"content-encoding", "date", "server"}
"""What the client has undone, or the web server here adds itself."""
