"""What an application has where its state lives in Postgres: ``store="postgresql://…"``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, cast

from faust.types import AppT

from connectors.outbox.journal import Logs
from connectors.outbox.publisher import Publisher
from connectors.postgres.database import Database
from connectors.processing.committer import Committer
from connectors.processing.dead_letters import DeadLetters
from connectors.processing.unit_of_work import Rows, UnitOfWork
from connectors.processing.unsent import keep_unsent


class Backing:
    """The database of one application, from its start to its end."""

    def __init__(
        self, app: AppT, database: Database, logs: Logs, tables: Callable[[], Iterable[Rows]]
    ) -> None:
        self.database = database
        self.dead_letters = DeadLetters(database)
        set_aside = keep_unsent(database, app.conf.id)
        self.publisher = Publisher(database, logs, set_aside=set_aside)
        self.committer = Committer(app.conf.id, database, self.dead_letters, self.publisher)
        self._tables = tables
        self.unit = UnitOfWork(tables)
        """Of the current assignment of partitions."""

    def start_over(self) -> None:
        """Forget what was not committed: its events are delivered again."""
        self.unit = UnitOfWork(self._tables)


class Backed(Protocol):
    """What knows an application's backing as soon as there is one."""

    @property
    def backing(self) -> Backing | None:
        """``None`` where the store is another one, or before the application is started."""


class _Unbacked(NamedTuple):
    backing: None = None


def backed(app: AppT) -> Backed:
    """Of an application, to be asked again and again."""
    # Its table manager, which is ours if its store is.
    return cast("Backed", app.tables) if hasattr(app.tables, "backing") else _Unbacked()


def backing_of(app: AppT) -> Backing | None:
    """``None`` where the store is another one, or before the application is started."""
    return backed(app).backing
