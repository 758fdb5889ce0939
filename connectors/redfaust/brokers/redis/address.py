"""What a broker's URL says about Redis.

===============================================  =================================================
``redis://user:password@host:6379/0``            one server
``redis+sentinel://host:26379,host:26379/name``  the primary that Sentinels call by this name;
                                                 ``/name/1`` is its database 1
``redis+cluster://host:7000,host:7001``          a cluster, known by some of its nodes
===============================================  =================================================

``rediss`` in place of ``redis`` is the same over TLS, also to the Sentinels. Behind a question mark
stand redis-py's options, and ``sentinel_username`` and ``sentinel_password`` where Sentinels ask.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from redis.asyncio.connection import parse_url

from redfaust.brokers.url import BrokerUrl
from redfaust.errors import BrokerError
from redfaust.options import query_options


class Kind(enum.Enum):
    """How the servers behind a URL belong together; the value is where they listen by default."""

    ONE = "one server", 6379
    SENTINEL = "a primary found by Sentinels", 26379
    CLUSTER = "a cluster", 6379


KINDS = {
    "redis": Kind.ONE,
    "rediss": Kind.ONE,
    "redis+sentinel": Kind.SENTINEL,
    "rediss+sentinel": Kind.SENTINEL,
    "redis+cluster": Kind.CLUSTER,
    "rediss+cluster": Kind.CLUSTER,
}
"""By scheme."""

Host = tuple[str, int]

TLS_OPTIONS = frozenset(
    {
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_exclude_verify_flags",
        "ssl_include_verify_flags",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
    }
)
"""Of a URL that begins with ``rediss``."""

OPTIONS = TLS_OPTIONS | {
    "client_name",
    "db",
    "health_check_interval",
    "max_connections",
    "password",
    "protocol",
    "retry_on_timeout",
    "sentinel_password",
    "sentinel_username",
    "socket_connect_timeout",
    "socket_keepalive",
    "socket_read_size",
    "socket_timeout",
    "username",
}
"""What may stand behind the question mark: of redis-py's options those that a text can say, and
that do not change what replies look like."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the servers are, and how to connect to them."""

    kind: Kind
    hosts: tuple[Host, ...]
    name: str
    """What Sentinels call the primary; otherwise empty."""
    encrypted: bool
    options: Mapping[str, Any]
    """Of every connection to Redis, as redis-py calls them."""
    sentinel_options: Mapping[str, Any]
    """The same of connections to Sentinels."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read a URL. Raises BrokerError, which says what to write and holds no part of it."""
        url = BrokerUrl.parse(text)
        kind = KINDS.get(url.scheme)
        if kind is None:
            raise BrokerError(f"the broker's URL has to begin with one of {_schemes()}")
        if kind is Kind.ONE and len(url.hosts) > 1:
            raise BrokerError(
                "the broker's URL names several hosts: write redis+sentinel:// or redis+cluster://"
            )
        hosts = tuple(_host(host, kind) for host in url.hosts)
        if not hosts:
            raise BrokerError(f"the broker's URL names no host: write {url.scheme}://host:port")
        options = _options(url)
        name, database = _path(url, kind)
        if database is not None:
            options.setdefault("db", database)
        if kind is Kind.CLUSTER and options.get("db"):
            raise BrokerError("a cluster has one database: leave its number out of the URL")
        encrypted = url.scheme.startswith("rediss")
        sentinel_options = {
            option.removeprefix("sentinel_"): options.pop(option)
            for option in ("sentinel_username", "sentinel_password")
            if option in options
        }
        if encrypted:
            sentinel_options |= {
                option: value for option, value in options.items() if option.startswith("ssl_")
            }
        return cls(kind, hosts, name, encrypted, options, sentinel_options)


@lru_cache
def without_password(url: str) -> str:
    """The URL as it may be shown in messages."""
    return BrokerUrl.parse(url).shown


def _schemes() -> str:
    return ", ".join(f"{scheme}://" for scheme in KINDS)


def _host(text: str, kind: Kind) -> Host:
    _, default_port = kind.value
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None:
        raise BrokerError(
            "a host in the broker's URL is none: write host:port, and percent-encode what is "
            "special in a password"
        )
    return unquote(host), port or default_port


def _options(url: BrokerUrl) -> dict[str, Any]:
    known = OPTIONS if url.scheme.startswith("rediss") else OPTIONS - TLS_OPTIONS
    query_options("the broker's URL", url.query, known, BrokerError)
    try:
        options: dict[str, Any] = {**parse_url(f"redis://?{url.query}")}
    except ValueError:
        raise BrokerError(
            "an option behind the question mark of the broker's URL has a value of a wrong kind"
        ) from None
    login = {"username": url.user, "password": url.password}
    return options | {name: value for name, value in login.items() if value is not None}


def _path(url: BrokerUrl, kind: Kind) -> tuple[str, int | None]:
    """The primary's name and the database's number."""
    words = [unquote(word) for word in url.path.split("/") if word]
    name = ""
    if kind is Kind.SENTINEL:
        if not words or words[0].isdigit():
            raise BrokerError(
                "the broker's URL names no primary: write redis+sentinel://host:26379/mymaster, "
                "with the name that the Sentinels' configuration gives it"
            )
        name = words.pop(0)
    if len(words) > 1 or not all(word.isdigit() for word in words):
        raise BrokerError("the path of the broker's URL is no number of a database: write /0")
    return name, int(words[0]) if words else None
