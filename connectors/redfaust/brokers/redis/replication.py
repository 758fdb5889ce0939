"""Whether what was read of a primary is on a replica, too.

Redis shows an entry before any replica has it. A primary that is cut off goes on for a while, and
what is read of it then never was, once a replica has taken its place; entries that others append
there may even have the same offsets. So nothing counts that no replica has confirmed. Where there
is none that is not waited for, and one that stays away not for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from faust.types import TP
from redis.asyncio import Redis
from redis.exceptions import AskError, MovedError, TryAgainError

from redfaust.brokers.broker import Replaced
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.client import TELLS_INCARNATION, incarnation_in, info
from redfaust.brokers.redis.servers import Servers
from redfaust.errors import BrokerUnavailable

WAIT = 0.5
"""Seconds for which a replica that is there is waited for in one go."""

GRACE = 10.0
"""Seconds without an answer after which a replica counts as gone. A cut-off primary should be
replaced by then."""

ALONE_FOR = 1.0
"""Seconds for which a server without replicas is taken to have none."""

TRIED = 3
"""Partitions for which something is written, since the slot of one may be on its way elsewhere."""

ON_ITS_WAY = (AskError, MovedError, TryAgainError)
"""What a node of a cluster says then."""

KEPT_FOR = 60
"""Seconds after which what was written for a replica to confirm is gone."""


@dataclass
class _Replicas:
    """Of one server, as long as it is of this incarnation."""

    incarnation: str
    heard: float | None = None
    """When one has confirmed something, or the first was seen; ``None``: none is waited for."""
    alone_until: float = 0.0


class Replication:
    """Of all servers of a broker."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._replicas: WeakKeyDictionary[Redis, _Replicas] = WeakKeyDictionary()

    async def confirm(self, tps: Collection[TP], incarnation: str) -> None:
        """See :meth:`~redfaust.brokers.broker.Broker.confirm`."""
        nodes = await self._servers.nodes(tps)
        await asyncio.gather(
            *(self._confirm(node, its, incarnation) for node, its in nodes.items())
        )

    async def _confirm(self, node: Redis, tps: Iterable[TP], incarnation: str) -> None:
        replicas = self._replicas.get(node)
        if replicas is None or replicas.incarnation != incarnation:
            replicas = self._replicas[node] = _Replicas(incarnation)
        if time.monotonic() < replicas.alone_until:
            return
        if replicas.heard is None:  # where there is none, waiting would be for nothing
            confirmed, said = False, await info(node, *TELLS_INCARNATION)
        else:
            confirmed, said = await self._ask(node, tps)
        if not await self._servers.is_of(incarnation, incarnation_in(said)):
            raise Replaced
        now = time.monotonic()
        if confirmed:
            replicas.heard = now
        elif said["connected_slaves"] and replicas.heard is None:
            replicas.heard = now
            await self._confirm(node, tps, incarnation)  # now that it is worth waiting
        elif replicas.heard is not None and now - replicas.heard <= GRACE:
            raise BrokerUnavailable(
                "no replica of Redis has confirmed what was read, which would be lost if one took "
                "over now"
            )
        else:
            replicas.heard = None
            replicas.alone_until = now + ALONE_FOR

    async def _ask(self, node: Redis, tps: Iterable[TP]) -> tuple[bool, dict[str, Any]]:
        """Whether a replica has all that this server had before, and what it says of itself: on
        one connection, since the next may lead to another server."""
        async with node.pipeline(transaction=False) as pipeline:
            for tp in islice(tps, TRIED):
                pipeline.set(keys.confirmed(tp), 1, ex=KEPT_FOR)
            pipeline.execute_command("WAIT", 1, round(WAIT * 1000))
            pipeline.execute_command("INFO", *TELLS_INCARNATION)
            *written, confirmed, said = await pipeline.execute(raise_on_error=False)
        for reply in (*written, confirmed, said):
            if isinstance(reply, Exception) and not isinstance(reply, ON_ITS_WAY):
                raise reply
        # While a cluster moves the slots of all of them there is nothing to write, and no waiting.
        return bool(confirmed), said
