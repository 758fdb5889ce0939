"""What an application has where its state is committed with its positions.

With ``store="postgresql://…"`` it lives in that database. All that the rest knows of it is here, so
that a test can have it in memory (:mod:`redfaust.testing`).
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

from faust.types import TP, AppT

from redfaust.brokers.broker import Broker
from redfaust.outbox.batch_publisher import Logs as BatchLogs
from redfaust.outbox.outbox import Scheduled, schedule
from redfaust.outbox.publisher import Publisher
from redfaust.postgres.database import Database, our_statements
from redfaust.processing.committer import Committer, Logs
from redfaust.processing.dead_letters import DeadLetters, NewDeadLetter
from redfaust.processing.offset_tracker import Committed, Progress
from redfaust.processing.parked_rows import select_parked
from redfaust.processing.parking import KeyQueue, Parking, Row
from redfaust.processing.rejected import dead_letter_rejected
from redfaust.processing.relaying import relay
from redfaust.processing.shared.inbox import Inbox, Noting
from redfaust.processing.shared.store import Effecting, Store
from redfaust.processing.unit_of_work import Batch, Rows, UnitOfWork
from redfaust.processing.waiting import Waiting


class TableStore(Rows, Protocol):
    """What a table keeps; see :class:`~redfaust.tables.store.PostgresStore`."""

    async def load_partitions(self, database: Database, partitions: Collection[int]) -> None: ...
    def put(self, key: Any, encoded: Any, partition: int) -> None: ...


class Committing(Protocol):
    """See :class:`~redfaust.processing.committer.Committer`."""

    async def take(self, logs: Logs, parking: Parking) -> dict[TP, Committed]: ...
    async def let_go(self, tps: Collection[TP]) -> None: ...
    async def start_over(self) -> None: ...
    async def commit(self, batch: Batch, progress: Mapping[TP, Progress]) -> None: ...
    async def verify(self) -> None: ...


class Publishing(Protocol):
    """See :class:`~redfaust.outbox.publisher.Publisher`."""

    async def run(self) -> None: ...
    async def has_room(self) -> None: ...
    async def drained(self) -> None: ...


class StateBackend(abc.ABC):
    """The state of one application, from its start to its end."""

    committer: Committing
    publisher: Publishing

    def __init__(self, tables: Callable[[], Iterable[Rows]]) -> None:
        self._tables = tables
        self.unit = UnitOfWork(tables)
        """Of the current assignment of partitions."""
        self.waiting = Waiting()

    def start_over(self) -> None:
        """Forget what was not committed: its events are delivered again."""
        before, self.unit = self.unit, UnitOfWork(self._tables)
        before.parking.changed.set()  # for who waits for it: there is another one now

    @abc.abstractmethod
    async def close(self) -> None:
        """Have done with it."""

    @abc.abstractmethod
    async def warnings(self) -> Sequence[str]:
        """How the state may be lost, a line for each. Raises DatabaseError."""

    @abc.abstractmethod
    async def load(self, store: TableStore, partitions: Collection[int]) -> None:
        """Have a table's rows of these partitions in memory. Raises DatabaseError."""

    @abc.abstractmethod
    async def schedule(self, scheduled: Sequence[Scheduled]) -> None:
        """Have entries sent that belong to no event. Raises DatabaseError."""

    @abc.abstractmethod
    async def keep(self, letter: NewDeadLetter) -> int:
        """Keep a dead letter that belongs to no commit; its number. Raises DatabaseError."""

    @abc.abstractmethod
    async def select_parked(
        self, lines: Sequence[KeyQueue], limit: int
    ) -> Sequence[tuple[KeyQueue, Row]]:
        """The first events of lines, as far as they are committed. Raises DatabaseError."""

    @abc.abstractmethod
    def inbox(self, agent: str, log: str) -> Noting:
        """What an agent with shared delivery has had of a broker's logs."""

    @abc.abstractmethod
    def shared_store(
        self, agent: str, inbox: Noting, *, be_sure_of_claims: Callable[[], Awaitable[None]]
    ) -> Effecting:
        """Where that goes which such an agent does."""

    @abc.abstractmethod
    async def relay(self, broker: Broker) -> None:
        """Carry what is in the outbox onto its topics, or stand by, until cancelled."""


class PostgresStateBackend(StateBackend):
    """The database of one application."""

    publisher: Publisher

    def __init__(
        self,
        app: AppT,
        database: Database,
        logs: BatchLogs,
        tables: Callable[[], Iterable[Rows]],
    ) -> None:
        super().__init__(tables)
        self._app = app
        self.database = database
        self._dead_letters = DeadLetters(database)
        dead_letter = dead_letter_rejected(database, app.conf.id)
        self.publisher = Publisher(database, logs, dead_letter=dead_letter)
        self.committer = Committer(
            app.conf.id, database, self._dead_letters, self.publisher, self.waiting
        )

    async def close(self) -> None:
        self.publisher.close()
        await self.database.close()

    async def warnings(self) -> Sequence[str]:
        return await self.database.warnings()

    async def load(self, store: TableStore, partitions: Collection[int]) -> None:
        with our_statements(f"{store.label}: rows cannot be loaded"):
            await store.load_partitions(self.database, partitions)

    async def schedule(self, scheduled: Sequence[Scheduled]) -> None:
        with our_statements("Entries cannot be scheduled"):
            async with self.database.transaction() as connection:
                await schedule(connection, scheduled)

    async def keep(self, letter: NewDeadLetter) -> int:
        with our_statements("A dead letter cannot be stored"):
            return await self._dead_letters.add(letter)

    async def select_parked(
        self, lines: Sequence[KeyQueue], limit: int
    ) -> Sequence[tuple[KeyQueue, Row]]:
        with our_statements("Parked events cannot be read"):
            async with self.database.transaction() as connection:
                return await select_parked(connection, self._app.conf.id, lines, limit)

    def inbox(self, agent: str, log: str) -> Inbox:
        return Inbox(self.database, agent, log)

    def shared_store(
        self, agent: str, inbox: Noting, *, be_sure_of_claims: Callable[[], Awaitable[None]]
    ) -> Store:
        return Store(
            self._app,
            agent,
            self.database,
            cast("Inbox", inbox),
            be_sure_of_claims=be_sure_of_claims,
        )

    async def relay(self, broker: Broker) -> None:
        await relay(self._app, self.database, broker)


class Backed(Protocol):
    """What knows an application's state backend as soon as there is one."""

    @property
    def state_backend(self) -> StateBackend | None:
        """``None`` where the store is another one, or before the application is started."""


class _Unbacked(NamedTuple):
    state_backend: None = None


def backed(app: AppT) -> Backed:
    """Of an application, to be asked again and again."""
    # Its table manager, which is ours if its store is.
    return cast("Backed", app.tables) if hasattr(app.tables, "state_backend") else _Unbacked()


def state_backend_of(app: AppT) -> StateBackend | None:
    """``None`` where the store is another one, or before the application is started."""
    return backed(app).state_backend
