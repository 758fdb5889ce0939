"""Rows of wide tables, loaded before the events that use them reach their agents.

Reading a table is synchronous in Faust, so a row has to be in memory before an agent asks for it.
The keys of a batch's events are pinned, as many as there are places for, and their rows are loaded
in one query; then these events go to the agents, and the rest of the batch is next. Where there is
no place, its events wait, and so the consumer stops reading their partition.

Each partition goes its own way: one that waits holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import asyncpg
from faust.types import TP, AppT, EventT, Message
from mode import Service

from connectors.errors import CacheFull, DatabaseError
from connectors.postgres.database import Database
from connectors.tables.cache import Cache
from connectors.tables.wide import WideStore

if TYPE_CHECKING:
    from connectors.tables.table import Table

SHARE = 2
"""One over this is the share of a table's places that events in queues may pin. Those in progress
can load rows of other keys into the rest."""

ROOM_FOR = 30.0
"""Seconds that an agent waits for a place for a row before it fails."""

LOOK_EVERY = 0.01
"""Seconds between two looks whether there is room. It comes with finished events and with commits,
too many to tell of each."""

RETRY_EVERY = 0.5
"""Seconds between two attempts to load rows while the database is away."""

Events: TypeAlias = Sequence[EventT[Any]]
Wanted: TypeAlias = list[tuple[WideStore, Any]]
"""Keys of tables."""
Pins: TypeAlias = list[tuple[Cache, Any]]
"""The same, pinned. Caches do not outlive an assignment of partitions, and so neither do pins."""

logger = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Events of one partition, and what takes them."""

    events: Events
    put: Callable[[Events], Awaitable[None]]


class Prefetch:
    """Loads rows for one application, from its start to its end."""

    def __init__(
        self, service: Service, database: Database, tables: Callable[[], Iterable[Table]]
    ) -> None:
        """``service`` runs the loading, and crashes if that does."""
        self._service = service
        self._database = database
        self._tables = tables
        self._waiting: defaultdict[TP, deque[Batch]] = defaultdict(deque)
        """Bounded by the events that the consumer lets be in flight."""
        self._workers: dict[TP, asyncio.Future[Any]] = {}
        self._pinned: defaultdict[TP, deque[tuple[Message, Pins]]] = defaultdict(deque)

    async def deliver(
        self, tp: TP, events: Events, put: Callable[[Events], Awaitable[None]]
    ) -> None:
        """Have events of a partition put, in their order, as soon as their rows are loaded.

        Returns at once. A batch is put in one or several pieces.
        """
        if not self._tables_for(tp.topic):
            await put(events)
            return
        self._waiting[tp].append(Batch(events, put))
        if tp not in self._workers:
            self._workers[tp] = self._service.add_future(self._work(tp))

    async def load(self, store: WideStore, keys: Sequence[Any], message: Message) -> None:
        """Load rows, and keep them until a message is finished.

        Raises CacheFull if too many other rows are in use, and for longer than ``ROOM_FOR``.
        """
        wanted = [(store, key) for key in keys]
        try:
            async with asyncio.timeout(ROOM_FOR):
                while not self._pin(message, wanted, share=1):
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

    def _tables_for(self, topic: str) -> list[Table]:
        return [table for table in self._tables() if table.prefetches(topic)]

    async def _work(self, tp: TP) -> None:
        tables, waiting = self._tables_for(tp.topic), self._waiting[tp]
        while waiting:
            events, put = waiting.popleft()
            done = 0
            while done < len(events):
                wanted = self._pin_what_fits(tables, events, done)
                if wanted:
                    await self._load(pin for of_event in wanted for pin in of_event)
                    await put(events[done : done + len(wanted)])
                    done += len(wanted)
                elif not self._unpin_finished(thoroughly=True):
                    await asyncio.sleep(LOOK_EVERY)
        del self._workers[tp]

    def _pin_what_fits(self, tables: Sequence[Table], events: Events, start: int) -> list[Wanted]:
        """Pin the keys of as many events as there is room for, in their order; returns those."""
        self._unpin_finished(thoroughly=False)
        pinned = []
        for index in range(start, len(events)):
            event = events[index]
            wanted = [one for table in tables for one in _wanted(table, event)]
            if not self._pin(event.message, wanted, share=SHARE):
                break
            pinned.append(wanted)
        return pinned

    def _pin(self, message: Message, wanted: Wanted, share: int) -> bool:
        """Pin all or none: who held some and waited for more would keep others waiting."""
        pins: Pins = []
        for store, key in wanted:
            if not store.cache.pin(key, at_most=_share(store, share)):
                _unpin(pins)
                return False
            pins.append((store.cache, key))
        if pins:
            self._pinned[message.tp].append((message, pins))
        return True

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

    async def _load(self, wanted: Iterable[tuple[WideStore, Any]]) -> None:
        keys: defaultdict[WideStore, dict[Any, None]] = defaultdict(dict)
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


def _wanted(table: Table, event: EventT[Any]) -> Wanted:
    store = cast(WideStore, table.data)
    keys = table.keys_of(event)
    if len(keys) > _share(store, SHARE):
        # There never is room for so many. The agent learns it when it reads one.
        return []
    return [(store, key) for key in keys]


def _share(store: WideStore, share: int) -> int:
    return max(1, store.cache.size // share)


def _unpin(pins: Pins) -> None:
    for cache, key in pins:
        cache.unpin(key)
