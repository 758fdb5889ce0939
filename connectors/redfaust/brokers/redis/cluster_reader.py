"""Reading from all nodes of a cluster at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

from faust.types import TP
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, SlotNotCoveredError
from redis.exceptions import ConnectionError as RedisConnectionError

from redfaust.brokers.broker import Record
from redfaust.brokers.redis import keys
from redfaust.brokers.redis.address import Host
from redfaust.brokers.redis.bounded import ReplyTooLarge, bound_for, fewer
from redfaust.brokers.redis.client import READS, REPLY_TIMEOUT
from redfaust.brokers.redis.cluster import TRY_AGAIN_AFTER, Cluster
from redfaust.brokers.redis.node_reader import NodeReader, Sought
from redfaust.brokers.redis.offsets import before
from redfaust.brokers.redis.sequences import Entries, Sequences
from redfaust.errors import BrokerUnavailable

LOOK_AGAIN_EVERY = 10.0
"""Seconds after which a stream is read again of whose changes nothing was heard, in case that this
was lost. What a slot's move hides is seen when the map of slots changes."""

RETRY_EVERY = 0.5
"""Seconds between two attempts to read from a node that is away."""

logger = logging.getLogger(__name__)

_AWAY = (RedisConnectionError, ClusterDownError, SlotNotCoveredError, OSError, TimeoutError)

_Found: TypeAlias = dict[TP, tuple[int, list[Record]]]
"""Of streams that are not quiet, what was read, and the position from which. It is nothing where a
stream has moved."""


class _Quiet(NamedTuple):
    """A stream that has nothing behind a position, as long as its node says nothing else."""

    position: int
    host: Host
    until: float


class _Reading(NamedTuple):
    """A read that is on its way to a node."""

    tps: frozenset[TP]
    task: asyncio.Task[_Found]


class ClusterReader:
    """See :meth:`~redfaust.brokers.broker.Broker.read`.

    A node that is away keeps nobody from reading the others. When it is back, or another one has
    its streams, one read raises as it does for a single server: entries may be missing.
    """

    def __init__(self, cluster: Cluster, sequences: Sequences) -> None:
        self._cluster = cluster
        self._sequences = sequences
        self._nodes: dict[Host, NodeReader] = {}
        self._primaries: frozenset[Host] = frozenset()
        self._tps: dict[bytes, TP] = {}
        self._quiet: dict[TP, _Quiet] = {}
        self._readings: dict[Host, _Reading] = {}
        self._away: dict[TP, Exception] = {}
        self._retry_at: dict[Host, float] = {}
        self._news = asyncio.Event()
        self._is_woken = False

    async def read(
        self, positions: Mapping[TP, int], *, limit: int, wait: float
    ) -> Mapping[TP, Sequence[Record]]:
        """Read from the nodes that have news, or from all if this does not wait for any."""
        self._is_woken = False
        until = time.monotonic() + (wait if wait > 0 else REPLY_TIMEOUT)
        if wait <= 0:
            self._hear(None)
        found: dict[TP, list[Record]] = {}
        while True:
            self._news.clear()
            await self._look_at_map()
            self._begin({tp: positions[tp] for tp in positions.keys() - found}, limit)
            found |= self._harvest(positions)
            self._raise_if_all_are_away(positions, found)
            if wait <= 0:
                is_over = not self._is_pending(positions.keys() - found)
            else:
                is_over = bool(found) or time.monotonic() >= until
            if is_over or self._is_woken:
                return found
            await self._wait_for_news(until)

    def wake(self) -> None:
        """Make a waiting read return at once. What it would have read, the next one reads."""
        self._is_woken = True
        self._news.set()

    async def close(self) -> None:
        """Disconnect."""
        self.wake()
        readings, self._readings = self._readings, {}
        for reading in readings.values():
            reading.task.cancel()
        await asyncio.gather(*(each.task for each in readings.values()), return_exceptions=True)
        await self._close_all_but(())

    # -- nodes -------------------------------------------------------------------------------

    async def _look_at_map(self) -> None:
        with suppress(RedisError, OSError, TimeoutError):
            await self._cluster.map()
        known, now = self._primaries, self._cluster.primaries
        if known == now:
            return
        self._primaries = now
        await self._close_all_but(now)
        if known and now - known:
            # Who has become a primary may lack what the one before had confirmed.
            self._away.clear()
            raise BrokerUnavailable(f"the primaries of {self._cluster.shown} are others now")

    async def _close_all_but(self, hosts: Collection[Host]) -> None:
        for host in self._nodes.keys() - hosts - self._readings.keys():
            await self._nodes.pop(host).close()

    def _node(self, host: Host) -> NodeReader:
        if host not in self._nodes:
            self._nodes[host] = NodeReader(
                self._cluster.pool(host, READS), changed=self._hear, lost=partial(self._lose, host)
            )
        return self._nodes[host]

    def _hear(self, changed: Collection[bytes] | None) -> None:
        if changed is None:
            self._quiet.clear()
        else:
            for stream in changed:
                if stream in self._tps:
                    self._quiet.pop(self._tps[stream], None)
        self._news.set()

    def _lose(self, host: Host) -> None:
        error = RedisConnectionError(f"the connection to {host[0]}:{host[1]} was lost")
        tps = [tp for tp, quiet in self._quiet.items() if quiet.host == host]
        self._leave_alone(host, tps, error, until=time.monotonic())
        self._news.set()

    def _raise_if_all_are_away(self, positions: Collection[TP], found: Collection[TP]) -> None:
        away = [self._away[tp] for tp in positions if tp in self._away]
        if away and len(away) == len(positions) and not found:
            self._away.clear()
            raise away[0]

    def _leave_alone(
        self, host: Host, tps: Collection[TP], error: Exception, *, until: float
    ) -> None:
        if host not in self._retry_at:
            logger.warning("Reading from %s:%s waits for it: %s", *host, error)
        self._cluster.failed(error)
        self._retry_at[host] = until
        for tp in tps:
            self._away[tp] = error
            self._quiet.pop(tp, None)

    # -- reading -----------------------------------------------------------------------------

    def _begin(self, positions: Mapping[TP, int], limit: int) -> None:
        """Read what is not known to be quiet from all nodes that are not being read from."""
        now = time.monotonic()
        by_host: dict[Host, dict[TP, int]] = {}
        for tp, position in positions.items():
            try:
                host = self._cluster.owner(keys.stream(tp))
            except SlotNotCoveredError as error:
                self._away[tp] = error
                continue
            quiet = self._quiet.get(tp)
            if quiet and (quiet.position, quiet.host) == (position, host) and now < quiet.until:
                continue
            if host not in self._readings and self._retry_at.get(host, now) <= now:
                by_host.setdefault(host, {})[tp] = position
        for host, of_host in by_host.items():
            for tp, position in of_host.items():
                self._tps[keys.stream(tp).encode()] = tp
                # Before it is read: what is heard meanwhile must not be forgotten.
                self._quiet[tp] = _Quiet(position, host, now + LOOK_AGAIN_EVERY)
            task = asyncio.create_task(self._read_from(host, of_host, limit))
            task.add_done_callback(lambda _: self._news.set())
            self._readings[host] = _Reading(frozenset(of_host), task)

    def _harvest(self, positions: Mapping[TP, int]) -> dict[TP, list[Record]]:
        """What the reads have found that are done, as far as it is still asked for."""
        found: dict[TP, list[Record]] = {}
        for host, reading in list(self._readings.items()):
            if not reading.task.done():
                continue
            del self._readings[host]
            try:
                read = reading.task.result()
            except _AWAY as error:
                until = time.monotonic() + RETRY_EVERY
                self._leave_alone(host, reading.tps, error, until=until)
                continue
            except RedisError:
                self._forget(reading.tps)
                raise
            self._retry_at.pop(host, None)
            self._forget(read.keys())
            if back := reading.tps & self._away.keys():
                self._forget(back)
                for tp in back:
                    del self._away[tp]
                raise BrokerUnavailable(f"{host[0]}:{host[1]} answers after another one did not")
            for tp, (position, records) in read.items():
                if records and positions.get(tp) == position:
                    found[tp] = records
        return found

    def _forget(self, tps: Iterable[TP]) -> None:
        for tp in tps:
            self._quiet.pop(tp, None)

    def _is_pending(self, positions: Iterable[TP]) -> bool:
        """Whether it is not known of one of them what it has."""
        on_their_way = {tp for reading in self._readings.values() for tp in reading.tps}
        known = (self._quiet.keys() | self._away.keys()) - on_their_way
        return any(tp not in known for tp in positions)

    async def _wait_for_news(self, until: float) -> None:
        now = time.monotonic()
        end = min([until, *(at for at in self._retry_at.values() if at > now)])
        with suppress(TimeoutError):
            async with asyncio.timeout(end - now):
                await self._news.wait()

    async def _read_from(self, host: Host, positions: Mapping[TP, int], limit: int) -> _Found:
        """Read, and return a stream as not quiet that was left out since there was too much."""
        asked = positions
        while True:
            try:
                found = await self._read_some(host, asked, limit)
            except ReplyTooLarge:
                # With the connection the node has forgotten of which streams it was to tell.
                self._forget([tp for tp, quiet in self._quiet.items() if quiet.host == host])
                asked, limit = fewer(asked, limit)
            else:
                left_out = positions.keys() - asked.keys()
                return found | {tp: (positions[tp], []) for tp in left_out}

    async def _read_some(self, host: Host, positions: Mapping[TP, int], limit: int) -> _Found:
        replies = await self._ask(host, positions, limit)
        onward: dict[Host, dict[TP, int]] = {}
        for tp, reply in replies.items():
            if isinstance(reply, MovedError):
                self._cluster.moved(reply)
            elif isinstance(reply, AskError):
                onward.setdefault((reply.host, reply.port), {})[tp] = positions[tp]
        for other, there in onward.items():
            replies |= await self._ask(other, there, limit, asking=True)
        moved = [tp for tp, reply in replies.items() if isinstance(reply, AskError)]
        if moved:
            await asyncio.sleep(TRY_AGAIN_AFTER)
        read = {
            keys.stream(tp).encode(): entries
            for tp, reply in replies.items()
            if tp not in moved and (entries := _entries(reply))
        }
        records = await self._sequences.decode(read)
        found = {
            tp: (position, records[stream])
            for tp, position in positions.items()
            if records.get(stream := keys.stream(tp).encode())
        }
        return found | {tp: (positions[tp], []) for tp in moved}

    async def _ask(
        self, host: Host, positions: Mapping[TP, int], limit: int, *, asking: bool = False
    ) -> dict[TP, Any]:
        sought = [
            Sought(keys.stream(tp), before(position), asking) for tp, position in positions.items()
        ]
        replies = await self._node(host).read(limit, sought, bound_for(positions, limit))
        return dict(zip(positions, replies, strict=True))


def _entries(reply: Any) -> Entries:
    if isinstance(reply, Exception):
        raise reply
    if not reply:
        return []
    [[_, entries]] = reply
    return cast("Entries", entries)
