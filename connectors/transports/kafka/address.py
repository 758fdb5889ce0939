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
from urllib.parse import parse_qsl, urlsplit

from connectors.errors import BrokerError
from connectors.transports.url import BrokerUrl

KAFKA = "kafka"
PORT = 9092

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the brokers are, and how to connect to them."""

    shown: str
    """The URL as it may stand in messages."""
    options: Mapping[str, Any]
    """Of every client, as aiokafka calls them."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read a URL. Raises BrokerError, which says what to write and holds no part of it."""
        url = BrokerUrl.parse(text)
        servers = [_server(host) for host in url.hosts]
        if not servers:
            raise BrokerError(f"the broker's URL names no host: write {KAFKA}://host:{PORT}")
        if url.path.strip("/"):
            raise BrokerError(f"the broker's URL has a path: write {KAFKA}://host:{PORT}")
        options = {"bootstrap_servers": servers, **_security(url)}
        return cls(url.shown, options)

    def with_options(self, options: Mapping[str, Any]) -> Address:
        """The same, where the application's credentials say how to connect."""
        return Address(self.shown, {**self.options, **options})


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


def _security(url: BrokerUrl) -> dict[str, Any]:
    query = dict(parse_qsl(url.query))
    default = "PLAINTEXT" if url.user is None else "SASL_PLAINTEXT"
    protocol = query.pop("security_protocol", default)
    mechanism = query.pop("sasl_mechanism", "PLAIN")
    if protocol not in _PROTOCOLS:
        raise BrokerError(f"security_protocol has to be one of {', '.join(_PROTOCOLS)}")
    if mechanism not in _MECHANISMS:
        raise BrokerError(f"sasl_mechanism has to be one of {', '.join(_MECHANISMS)}")
    if query:
        raise BrokerError(
            "behind the question mark of the broker's URL may stand security_protocol and "
            "sasl_mechanism"
        )
    options: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        options["ssl_context"] = ssl.create_default_context()
    if protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": mechanism,
            "sasl_plain_username": url.user or "",
            "sasl_plain_password": url.password or "",
        }
    return options
