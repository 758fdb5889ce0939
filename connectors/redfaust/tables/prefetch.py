"""Rows of table with cached rowss, loaded before the events that use them reach their agents.

Reading a table is synchronous in Faust, so a row has to be in memory before an agent asks for it.
The keys of a batch's events are pinned, as many as there are places for, and their rows are loaded
in one query; then these events go to the agents, and the rest of the batch is next. Where there is
no place, its events wait, and so the consumer stops reading their partition.

Each partition goes its own way and has places of its own: one that waits holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import asyncpg
from faust.types import TP, AppT, EventT, Message
from mode import Service

from redfaust.errors import CacheFull, DatabaseError
from redfaust.postgres.database import Database
from redfaust.tables.cache import Cache
from redfaust.tables.cached_store import CachedStore

if TYPE_CHECKING:
    from redfaust.tables.table import Table

SHARE = 2
"""One over this is the share of a table's places that all partitions have together for events that
wait. Those in progress can load rows of other keys into the rest."""

ROOM_FOR = 30.0
"""Seconds that an agent waits for a place for a row before it fails."""

LOOK_EVERY = 0.01
"""Seconds between two looks whether there is room. It comes with finished events and with commits,
too many to tell of each."""

RETRY_EVERY = 0.5
"""Seconds between two attempts to load rows while the database is away."""

IN_PROGRESS = "in progress"
"""Holds what agents have loaded themselves. Partitions hold what was loaded for their events."""

Events: TypeAlias = Sequence[EventT[Any]]
Wanted: TypeAlias = list[tuple[CachedStore, Any]]
"""Keys of tables."""

logger = logging.getLogger(__name__)


class Pin(NamedTuple):
    """A key that is kept. It does not outlive its cache, and that no assignment of partitions."""

    cache: Cache
    key: Any
    holder: Hashable


class Delivery:
    """Events of one partition for one channel, which are put piece by piece."""

    def __init__(self, events: Events, put: Callable[[Events], Awaitable[None]]) -> None:
        self.events = events
        self._put = put
        self._done = 0

    async def put(self, last: int | None = None) -> None:
        """Put those that are left, up to an offset if there is one."""
        start, events = self._done, self.events
        self._done = len(events)
        if last is not None:
            self._done = bisect_right(events, last, lo=start, key=lambda e: e.message.offset)
        if self._done > start:
            await self._put(events[start : self._done])


class Prefetch:
    """Loads rows for one application, from its start to its end."""

    def __init__(
        self, service: Service, database: Database, tables: Callable[[], Iterable[Table]]
    ) -> None:
        """``service`` runs the loading, and crashes if that does."""
        self._service = service
        self._database = database
        self._tables = tables
        self._waiting: defaultdict[TP, deque[Sequence[Delivery]]] = defaultdict(deque)
        """Bounded by the events that the consumer lets be in flight."""
        self._workers: dict[TP, asyncio.Future[Any]] = {}
        self._pinned: defaultdict[TP, deque[tuple[Message, list[Pin]]]] = defaultdict(deque)
        self._places: dict[CachedStore, int] = {}
        """How many of a table's places each partition has for itself."""

    async def deliver(self, tp: TP, deliveries: Sequence[Delivery]) -> None:
        """Have a batch of a partition put, as soon as the rows that it needs are loaded.

        If it needs any this returns at once. Batches are put in their order, each in one or
        several pieces.
        """
        tables = [table for table in self._tables() if table.prefetches(tp.topic)]
        if not tables:
            await put_all(deliveries)
            return
        self._waiting[tp].append(deliveries)
        if tp not in self._workers:
            self._workers[tp] = self._service.add_future(self._work(tp, tables))

    async def load(self, store: CachedStore, keys: Sequence[Any], message: Message) -> None:
        """Load rows, and keep them until a message is finished.

        Raises CacheFull if too many other rows are in use, and for longer than ``ROOM_FOR``.
        """
        wanted = [(store, key) for key in keys]
        try:
            async with asyncio.timeout(ROOM_FOR):
                while not self._pin(message, wanted, IN_PROGRESS):
                    if not self._unpin_finished(thoroughly=True):
                        await asyncio.sleep(LOOK_EVERY)
        except TimeoutError:
            raise CacheFull(
                f"{store.label} has no place for {len(keys)} more: its {store.cache.size} rows in "
                "memory are in use. Raise the table's cached_rows, or use fewer for one event"
            ) from None
        await self._load(wanted)

    async def start_over(self) -> None:
        """Forget what is waiting and pinned: partitions move, and their events come again."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self._workers.clear()
        self._waiting.clear()
        self._pinned.clear()
        self._places.clear()

    def let_go(self, tps: Collection[TP]) -> None:
        """Forget what is waiting and pinned of partitions that are somebody else's now."""
        for tp in tps:
            if (worker := self._workers.pop(tp, None)) is not None:
                worker.cancel()
            self._waiting.pop(tp, None)
            for _, pins in self._pinned.pop(tp, ()):
                _unpin(pins)
        self.share_anew()

    def share_anew(self) -> None:
        """Give each partition its share of the places, since there are more or fewer of them."""
        self._places.clear()

    async def _work(self, tp: TP, tables: Sequence[Table]) -> None:
        waiting = self._waiting[tp]
        while waiting:
            deliveries = waiting.popleft()
            messages, done = _by_message(deliveries), 0
            while done < len(messages):
                wanted = self._pin_what_fits(tp, tables, messages[done:])
                if wanted:
                    await self._load(one for of_message in wanted for one in of_message)
                    done += len(wanted)
                    for delivery in deliveries:
                        await delivery.put(messages[done - 1][0].message.offset)
                elif not self._unpin_finished(thoroughly=True):
                    await asyncio.sleep(LOOK_EVERY)
        del self._workers[tp]

    def _pin_what_fits(
        self, tp: TP, tables: Sequence[Table], messages: Sequence[Events]
    ) -> list[Wanted]:
        """Pin the keys of as many messages as there is room for, in their order; returns those."""
        self._unpin_finished(thoroughly=False)
        pinned = []
        for events in messages:
            wanted = _wanted(tables, events)
            if not self._pin(events[0].message, wanted, tp):
                break
            pinned.append(wanted)
        return pinned

    def _pin(self, message: Message, wanted: Wanted, holder: Hashable) -> bool:
        """Pin all or none: who held some and waited for more would keep others waiting."""
        pins: list[Pin] = []
        at_most = {store: self._at_most(store, holder) for store, _ in wanted}
        for store, key in wanted:
            if not store.cache.pin(key, holder, at_most[store]):
                _unpin(pins)
                return False
            pins.append(Pin(store.cache, key, holder))
        if pins:
            self._pinned[message.tp].append((message, pins))
        return True

    def _at_most(self, store: CachedStore, holder: Hashable) -> int:
        """How many keys a holder may pin. The first event of a partition gets what it needs."""
        if holder is IN_PROGRESS or not store.cache.pinned_by(holder):
            return store.cache.size
        if store not in self._places:
            table = cast("Table", store.table)
            sharing = sum(table.prefetches(tp.topic) for tp in store.app.consumer.assignment())
            self._places[store] = store.cache.size // SHARE // max(1, sharing)
        return self._places[store]

    def _unpin_finished(self, *, thoroughly: bool) -> bool:
        """Unpin what finished events have used; whether there were any.

        Most finish in order. Only a thorough look finds those that are ahead of an unfinished one.
        """
        found = False
        for tp, pinned in self._pinned.items():
            while pinned and pinned[0][0].acked:
                found = True
                _unpin(pinned.popleft()[1])
            if thoroughly:
                finished = [pins for message, pins in pinned if message.acked]
                if finished:
                    found = True
                    self._pinned[tp] = deque(entry for entry in pinned if not entry[0].acked)
                    for pins in finished:
                        _unpin(pins)
        return found

    async def _load(self, wanted: Iterable[tuple[CachedStore, Any]]) -> None:
        keys: defaultdict[CachedStore, dict[Any, None]] = defaultdict(dict)
        for store, key in wanted:
            keys[store][key] = None
        for store, of_store in keys.items():
            while True:
                try:
                    await store.load(self._database, list(of_store))
                except (DatabaseError, asyncpg.PostgresError) as error:
                    logger.warning("%s cannot load rows now: %s", store.label, error)
                    await asyncio.sleep(RETRY_EVERY)
                else:
                    break


def prefetch_of(app: AppT) -> Prefetch | None:
    """``None`` where no tables live in Postgres, or before the application is started."""
    # Of the application's table manager, which is ours if its store is.
    return cast("Prefetch | None", getattr(app.tables, "prefetch", None))


async def put_all(deliveries: Iterable[Delivery]) -> None:
    """Put what is left of all."""
    for delivery in deliveries:
        await delivery.put()


def _by_message(deliveries: Iterable[Delivery]) -> list[Events]:
    """What the channels get of each message, in the order of the messages."""
    by_offset: defaultdict[int, list[EventT[Any]]] = defaultdict(list)
    for delivery in deliveries:
        for event in delivery.events:
            by_offset[event.message.offset].append(event)
    return [by_offset[offset] for offset in sorted(by_offset)]


def _wanted(tables: Iterable[Table], events: Events) -> Wanted:
    wanted: Wanted = []
    for table in tables:
        store = cast(CachedStore, table.data)
        keys = {key: None for event in events for key in table.keys_of(event)}
        # There never is room for more. The agent learns it when it reads one.
        if len(keys) <= store.cache.size:
            wanted += [(store, key) for key in keys]
    return wanted


def _unpin(pins: Iterable[Pin]) -> None:
    for cache, key, holder in pins:
        cache.unpin(key, holder)
