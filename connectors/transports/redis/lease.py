"""Who owns the partitions of a group: the member whose name stands in the lease.

One lease for the whole group: its holder works on all partitions, every other member stands by
and takes over when the lease is released or ends. The boundary is
:class:`~connectors.transports.broker.Ownership`; nothing outside this module knows how ownership
is decided.
"""

from __future__ import annotations

import asyncio
import logging
import time

from redis.asyncio import Redis

from connectors.errors import BrokerUnavailable
from connectors.transports.redis import keys
from connectors.transports.redis.client import our_errors, script

logger = logging.getLogger(__name__)

LEASE = 6.0
"""Seconds after which the partitions of a silent member are given to another."""

RENEW_EVERY = 1.5
"""Seconds between two renewals: three of them may fail before the lease ends."""

ASK_EVERY = 0.5
"""Seconds between two attempts to take a lease that another member holds."""

SAFETY = 1.0
"""Seconds before the end of a lease at which its holder stops to rely on it."""


class Lease:
    """One member's claim. See :class:`~connectors.transports.broker.Ownership`."""

    def __init__(self, client: Redis, url: str, group: str, member: str) -> None:
        self._client = client
        self._url = url
        self._key = keys.lease(group)
        self._member = member
        self._renew = script(client, "renew_lease")
        self._release = script(client, "release_lease")
        self._held_until = 0.0

    @property
    def held(self) -> bool:
        return time.monotonic() < self._held_until

    async def acquire(self) -> None:
        while not await self._try_to_acquire():  # noqa: ASYNC110 - another process holds it
            await asyncio.sleep(ASK_EVERY)

    async def keep(self) -> None:
        while time.monotonic() < self._held_until - SAFETY:
            await asyncio.sleep(RENEW_EVERY)
            asked = time.monotonic()
            try:
                with our_errors(self._url):
                    async with asyncio.timeout(max(0.1, self._held_until - SAFETY - asked)):
                        mine = await self._renew(keys=[self._key], args=[self._member, _LEASE_MS])
            except (BrokerUnavailable, TimeoutError):
                continue
            if not mine:
                return
            self._held_until = asked + LEASE

    async def release(self) -> None:
        self._held_until = 0.0
        with our_errors(self._url):
            await self._release(keys=[self._key], args=[self._member])

    async def _try_to_acquire(self) -> bool:
        asked = time.monotonic()
        try:
            with our_errors(self._url):
                taken = await self._client.set(self._key, self._member, nx=True, px=_LEASE_MS)
        except BrokerUnavailable as error:
            logger.warning("Cannot ask for the partitions: %s", error)
            return False
        if taken:
            self._held_until = asked + LEASE
        return bool(taken)


_LEASE_MS = int(LEASE * 1000)
