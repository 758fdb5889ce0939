"""A broker's URL, which unlike others may name several hosts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Self
from urllib.parse import quote, unquote

_PARTS = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.DOTALL)
"""Those of RFC 3986. ``urlsplit`` takes no list with brackets behind its first host."""


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """``scheme://user:password@host:port,host:port/path?query``, taken apart.

    A comma in a password has to be percent-encoded, as have ``:``, ``/`` and ``@``.
    """

    scheme: str
    user: str | None
    password: str | None
    hosts: tuple[str, ...]
    """As they are written, with or without a port."""
    path: str
    query: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a URL apart. What there is none of is empty: whether that will do others say."""
        found = _PARTS.fullmatch(text)
        assert found  # any text has such parts
        scheme, netloc, path, query = (part or "" for part in found.groups())
        login, at, hosts = netloc.rpartition("@")
        user, colon, password = login.partition(":")
        return cls(
            scheme.lower(),
            unquote(user) if at and user else None,
            unquote(password) if colon else None,
            tuple(host for host in hosts.split(",") if host),
            path,
            query,
        )

    @classmethod
    def of_parts(cls, parts: Sequence[str]) -> Self:
        """Put together again what Faust takes for several URLs, since it splits at commas."""
        first, *others = map(cls.parse, parts)
        last = others[-1] if others else first
        hosts = chain(first.hosts, *(other.hosts for other in others))
        return replace(first, hosts=tuple(hosts), path=last.path, query=last.query)

    def with_login(self, user: str | None, password: str | None) -> Self:
        """The same for another user."""
        return replace(self, user=user, password=password)

    def __str__(self) -> str:
        login = quote(self.user or "", safe="")
        if self.password is not None:
            login += f":{quote(self.password, safe='')}"
        query = f"?{self.query}" if self.query else ""
        netloc = f"{login}{'@' if login else ''}{','.join(self.hosts)}"
        return f"{self.scheme}://{netloc}{self.path}{query}"

    @property
    def shown(self) -> str:
        """The URL as it may stand in messages: a query may hold a password as well."""
        return str(replace(self, password=None, query=""))
