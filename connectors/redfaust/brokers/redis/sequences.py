"""The secrets of one Redis, and reading entries with them.

The first process that needs a secret draws it. If it is deleted, evicted or lost in a failover, a
process that still knows it puts it back; what a new secret has replaced
goes on to verify what it has signed.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from redis.asyncio import Redis
from redis.exceptions import RedisError

from redfaust.brokers.broker import Record
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import script
from redfaust.brokers.redis.entry import decode
from redfaust.brokers.sequences import SECRET_BYTES, LogSigner, Signer

KNOWN_FOR = 1.0
"""Seconds until somebody who signs or reads makes sure again that the secrets are there."""

LOOK_WITHIN = 0.5
"""Seconds that this may take somebody who knows secrets: a node that hangs must not hold up
the others."""

LOOK_AGAIN = 10.0
"""Seconds until the next look after one that failed."""

KEPT = 4
"""Secrets that are kept: the one that signs, and those before it."""

Entries: TypeAlias = Sequence[tuple[bytes, Sequence[bytes]]]
"""Entries of a stream as they come from ``XREAD``: each its ID, then fields and values in turn."""


class Sequences:
    """Signs and verifies sources."""

    def __init__(self, client: Redis) -> None:
        self._keep = script(client, "keep_secrets")
        self._known: list[str] = []
        self._known_until = 0.0
        self._signer = Signer([])

    async def ready(self) -> None:
        """Make sure that there are secrets, and that they are known here."""
        if time.monotonic() >= self._known_until:
            await self.renew()

    def log(self, stream: bytes) -> LogSigner:
        """The signer of one stream, with what is known since :meth:`ready`."""
        return self._signer.log(stream)

    async def decode(self, found: Mapping[bytes, Entries]) -> dict[bytes, list[Record]]:
        """Read entries, by the stream that they lie in."""
        await self.ready()
        records: dict[bytes, list[Record]] = {}
        doubtful = []
        for stream, entries in found.items():
            signer = self._signer.log(stream)
            refused = signer.refused
            records[stream] = decode(entries, signer)
            if signer.refused > refused:
                doubtful.append(stream)
        if doubtful and await self.renew():
            # A secret that was not known here yet has signed some of them, perhaps.
            for stream in doubtful:
                records[stream] = decode(found[stream], self._signer.log(stream))
        return records

    async def renew(self) -> bool:
        """Ask for the secrets; returns True if they are others than before."""
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(LOOK_WITHIN if self._known else None):
                text = await self._keep(
                    keys=[keys.SECRETS], args=[KEPT, secrets.token_hex(SECRET_BYTES), *self._known]
                )
        except (RedisError, OSError, TimeoutError):
            if not self._known:
                raise
            # One node of a cluster has them: it keeps nobody from the others. Nor does anybody
            # change them while it is away.
            self._known_until = time.monotonic() + LOOK_AGAIN
            return False
        self._known_until = asked_at + KNOWN_FOR
        found = text.decode().split()
        if found == self._known:
            return False
        self._known = found
        self._signer = Signer([bytes.fromhex(secret) for secret in found])
        return True
