"""Databases that several hosts serve, one of which takes writes.

Their URL has a list where others have a host, as libpq reads it:
``postgresql://user@one:5432,two:5432/shop`` or ``postgresql://user@/shop?host=one,two``. When the
primary dies a standby is promoted, and the same URL leads there.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from redfaust.postgres.driver_errors import DRIVER, Kind, kind_of

CONNECT_TIMEOUT = 10.0
"""Seconds until a server that does not answer counts as unreachable."""
NEXT_AFTER = 3.0
"""The same where another host can be asked instead."""

_NAMES = """
    application_name client_encoding dbname database host jit lock_timeout options passfile password
    port search_path service sslcert sslcrl sslkey sslmode sslpassword sslrootcert
    ssl_max_protocol_version ssl_min_protocol_version statement_timeout synchronous_commit
    target_session_attrs timezone user
"""
_KNOWN = frozenset(_NAMES.split())
"""Of a URL's query: those of libpq that asyncpg knows, and settings that are often given there."""
ALIKE = 0.75
"""From this ratio of difflib's an unknown option is taken for a known one that is misspelt."""

_HOSTS = re.compile(r"(?P<before>\w+://(?:[^/?#]*@)?)(?P<hosts>[^/?#]*)(?P<after>.*)", re.DOTALL)
"""``urlsplit`` takes no list with brackets behind its first host."""

logger = logging.getLogger(__name__)


class Hosts:
    """Finds the host that takes writes, beginning with the one that did last."""

    def __init__(self, url: str) -> None:
        """Raises :class:`ValueError` for a URL that cannot be understood."""
        self._urls = deque(each_host(url))

    def __str__(self) -> str:
        return ",".join(sorted(map(_host, self._urls)))

    async def connect(self, *_: object, **options: Any) -> asyncpg.Connection[asyncpg.Record]:
        """As :func:`asyncpg.connect`, which would wait for the first host until its time is over.

        Raises what the only host raises, or :class:`ConnectionError` with what each of several has
        said; or at once what another host would not mend, such as a wrong password.
        """
        if len(self._urls) == 1:
            return await _connect(self._urls[0], CONNECT_TIMEOUT, options)
        said = []
        for url in list(self._urls):
            try:
                connection = await _connect(url, NEXT_AFTER, options)
            except DRIVER as error:
                if kind_of(error) is not Kind.AWAY:
                    raise
                said.append(f"{_host(url)}: {str(error) or 'no answer'}")
                continue
            if url != self._urls[0]:
                logger.warning("The database is written to at %s now", _host(url))
                self._urls.remove(url)
                self._urls.appendleft(url)
            return connection
        raise ConnectionError("; ".join(said))


async def _connect(
    url: str, timeout: float, options: dict[str, Any]
) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(url, timeout=timeout, **options)


def list_as_parameter(url: str) -> str:
    """The same URL with its list of hosts, if it has one, as the parameter ``host``, which passes
    parsers that want one host with one port."""
    found = _HOSTS.fullmatch(url)
    if found is None or "," not in found["hosts"]:
        return url
    parts = urlsplit(found["before"] + found["after"])
    query = _encode([("host", found["hosts"]), *_decode(parts.query)])
    return urlunsplit(parts._replace(query=query))


def check_options(url: str, *ours: str) -> None:
    """Raise ValueError for an option of the URL that is given twice, or is like a known one.

    ``ours`` are known beside those of libpq. Any other is a setting of the session, which Postgres
    itself refuses if it knows none of that name.
    """
    query = urlsplit(list_as_parameter(url)).query
    names = [name for name, _ in _decode(query)]
    known = _KNOWN.union(ours)
    for name in names:
        if names.count(name) > 1:
            shown = name if name in known else "an option"
            raise ValueError(f"{shown} is given twice behind the question mark: write it once")
        if name not in known and (near := get_close_matches(name, known, n=1, cutoff=ALIKE)):
            raise ValueError(f"an option behind the question mark is none: did you mean {near[0]}?")


def each_host(url: str) -> Sequence[str]:
    """A URL for each host, which is used if it takes writes, unless the URL asks for something
    else (``target_session_attrs``); the URL itself if it names one host.

    Raises :class:`ValueError` if it cannot be understood.
    """
    parts = urlsplit(list_as_parameter(url))
    query = dict(_decode(parts.query))
    hosts = query.pop("host", "").split(",")
    if len(hosts) == 1:
        return [url]
    ports = query.pop("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    query.setdefault("target_session_attrs", "read-write")
    return [
        urlunsplit(parts._replace(query=_encode([("host", host), *port, *query.items()])))
        for host, port in zip(
            hosts, ([("port", port)] if port else [] for port in ports), strict=True
        )
    ]


def _host(url: str) -> str:
    """The host and, if it is named, the port of a URL that names one."""
    parts = urlsplit(url)
    query = dict(_decode(parts.query))
    host = parts.hostname or query.get("host") or "localhost"
    port = parts.port or query.get("port")
    return f"{host}:{port}" if port else host


def _decode(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True)


def _encode(query: Sequence[tuple[str, str]]) -> str:
    return urlencode(query, safe=":,/[]")
