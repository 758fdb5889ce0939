"""Faust's transport on memory, for one worker that is alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import cast

from faust.types import TP
from mode import Service

from redfaust.brokers.broker import Appended, Broker, Outgoing, Record
from redfaust.brokers.membership import Membership, RebalanceListener
from redfaust.brokers.memory.broker import Log, MemoryBroker
from redfaust.transports.consumer import Consumer as ConnectedConsumer
from redfaust.transports.transport import BrokerTransport


class LoneBroker(MemoryBroker):
    """Memory that nobody else has, and that remembers what it took, in order."""

    def __init__(self, *, default_partitions: int) -> None:
        super().__init__("memory://in-memory", default_partitions=default_partitions)
        self._log = Log()
        self.taken: list[tuple[Outgoing, Appended]] = []

    async def append(self, entries: Sequence[Outgoing]) -> Sequence[Appended]:
        appended = await super().append(entries)
        self.taken += zip(entries, appended, strict=True)
        return appended

    async def read(
        self, positions: Mapping[TP, int], *, limit: int, wait: float
    ) -> Mapping[TP, Sequence[Record]]:
        # Until there is news: what looks again every second would be most of a day that passes.
        self._news.clear()
        found = await super().read(positions, limit=limit, wait=0)
        if not found and wait > 0:
            await self._news.wait()
            found = await super().read(positions, limit=limit, wait=0)
        return found


class LoneMembership:
    """Of a worker that owns everything, and need not say that it lives."""

    member = "in-memory"

    def __init__(self, listener: RebalanceListener) -> None:
        self.info: Callable[[], Mapping[str, object]] = dict
        self._listener = listener
        self._wanted: frozenset[TP] = frozenset()
        self._held: frozenset[TP] | None = None
        self._changed = asyncio.Event()

    @property
    def owns(self) -> bool:
        return True

    def want(self, tps: frozenset[TP], *, alone: frozenset[TP] = frozenset()) -> None:
        self._wanted = tps | alone
        self._changed.set()

    def start_over(self) -> None:
        self._held = None
        self._changed.set()

    def give_up(self, tps: Collection[TP]) -> None:
        """Nobody takes anything from it."""

    async def run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            held, self._held = self._held, self._wanted
            if held is None:
                await self._listener.start_over(self._wanted)
            elif gained := self._wanted - held:
                await self._listener.gain(gained)

    async def leave(self) -> None:
        """Nobody waits for what it had."""


class Consumer(ConnectedConsumer):
    """The consumer of a worker that is alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._membership = cast(Membership, LoneMembership(self.rebalance))

    # These look again every few seconds, for what is not here.

    @Service.task
    async def _verify(self) -> None:
        """Memory is not set back."""

    @Service.task
    async def _watch_logs(self) -> None:
        """Nor are its logs."""

    @Service.task
    async def _clean_logs(self) -> None:
        """Topics keep all that was sent, for the test to see."""


class Transport(BrokerTransport):
    """Given to an application in the place of its own."""

    driver_version = "in memory"
    Consumer = Consumer

    @classmethod
    def new_broker(cls, url: str, default_partitions: int) -> Broker:  # noqa: ARG003
        return LoneBroker(default_partitions=default_partitions)

    @property
    def lone_broker(self) -> LoneBroker:
        """Its broker."""
        return cast(LoneBroker, self.broker)
