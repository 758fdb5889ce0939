"""What a broker's URL says about Kafka.

``kafka://user:password@host:9092,host:9092?security_protocol=SASL_SSL``: the hosts are where the
cluster is asked for the others. Who gives a user logs in with SASL, by ``sasl_mechanism`` (PLAIN
unless the URL says otherwise).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redfaust.brokers.url import BrokerUrl
from redfaust.errors import BrokerError
from redfaust.options import query_options

KAFKA = "kafka"
PORT = 9092

_CHOICES = {
    "security_protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "sasl_mechanism": ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the brokers are, and how to connect to them."""

    shown: str
    """The URL as it may stand in messages."""
    options: Mapping[str, Any]
    """Of every client, as aiokafka calls them."""

    @classmethod
    def parse(cls, text: str, credentials: Mapping[str, Any] | None = None) -> Address:
        """Read a URL. What it says itself counts for more than ``credentials``, which are options
        as well. Raises BrokerError, which says what to write and holds no part of the URL."""
        url = BrokerUrl.parse(text)
        servers = [_server(host) for host in url.hosts]
        if not servers:
            raise BrokerError(f"the broker's URL names no host: write {KAFKA}://host:{PORT}")
        if url.path.strip("/"):
            raise BrokerError(f"the broker's URL has a path: write {KAFKA}://host:{PORT}")
        return cls(url.shown, {"bootstrap_servers": servers, **_security(url, credentials or {})})


def _server(text: str) -> str:
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
    return f"[{host}]:{port or PORT}" if ":" in host else f"{host}:{port or PORT}"


def _security(url: BrokerUrl, credentials: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"security_protocol": "PLAINTEXT"}
    if url.user is not None:
        options = {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": url.user,
            "sasl_plain_password": url.password or "",
        }
    options |= {name: value for name, value in credentials.items() if value is not None}
    written = query_options("the broker's URL", url.query, _CHOICES, BrokerError)
    for name, value in written.items():
        if value not in _CHOICES[name]:
            raise BrokerError(
                "behind the question mark of the broker's URL may stand "
                + " and ".join(f"{name}={'|'.join(known)}" for name, known in _CHOICES.items())
            )
        options[name] = value
    if options["security_protocol"].endswith("SSL") and "ssl_context" not in options:
        options["ssl_context"] = ssl.create_default_context()
    return options
