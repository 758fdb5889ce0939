"""Commands of ``faust -A app …`` that have to do with where things are here."""

from __future__ import annotations

from typing import Any

from faust.cli.base import AppCommand, option
from faust.cli.reset import reset as faust_reset
from faust.cli.worker import worker as faust_worker
from faust.exceptions import ImproperlyConfigured
from mode.types import ServiceT
from yarl import URL

from redfaust.brokers.url import BrokerUrl
from redfaust.errors import RedfaustError, ResetRefused
from redfaust.postgres.database import Database
from redfaust.tables import manager as managing
from redfaust.tables import reset as tables
from redfaust.tables.manager import POSTGRES, TableManager


class reset(faust_reset):  # noqa: N801 - its name is the command's, and takes the place of Faust's
    """Empty all tables, and have events processed anew.

    The rows of tables in Postgres are deleted, and the application's positions set back to the
    oldest events, so that workers compute the tables once more. What events send is sent again.

    Of tables that recover from changelog topics only local files are deleted, as Faust does.
    """

    async def run(self) -> None:
        """Execute the command."""
        manager = self.app.tables
        if not (isinstance(manager, TableManager) and manager.postgres_tables()):
            await super().run()
            return
        try:
            deleted = await tables.reset(self.app)
        except ResetRefused as refusal:
            raise self.UsageError(str(refusal)) from None
        for name, rows in deleted.items():
            self.say(f"Table {name}: {rows} rows deleted")
        self.say("Workers begin with the oldest events when they are started")


class create_tables(AppCommand):  # noqa: N801 - the command is called create-tables
    """Create what the application needs in Postgres: schema, tables, columns, indexes.

    Run it as the role that owns them, before workers whose role may only read and write. It creates
    what is missing, and nothing twice.
    """

    options = [  # noqa: RUF012 - as Faust declares it
        option("--sql", is_flag=True, help="Print the tables' statements, and run none."),
    ]

    async def run(self, sql: bool) -> None:
        """Execute the command."""
        manager = self.app.tables
        if not (isinstance(manager, TableManager) and URL(self.app.conf.store).scheme in POSTGRES):
            raise self.UsageError('there is nothing to create: store is no "postgresql://…"')
        try:
            database = await managing.connect(manager)
            try:
                await self._create(manager, database, print_only=sql)
            finally:
                await database.close()
        except (RedfaustError, ImproperlyConfigured) as error:
            raise self.UsageError(str(error)) from None

    async def _create(self, manager: TableManager, database: Database, *, print_only: bool) -> None:
        if print_only:
            for statement in await managing.missing_tables(manager, database):
                self.say(f"{statement.strip()};")
            return
        done = await managing.create_tables(manager, database)
        self.say("\n".join(each.strip() for each in done) or "Nothing is missing")


class worker(faust_worker):  # noqa: N801
    """Start worker instance for given app."""

    options = [  # noqa: RUF012 - Faust reads it from the class
        *faust_worker.options,
        option(
            "--relay/--no-relay",
            default=True,
            help="Whether this worker also publishes what the outbox holds, or stands by for it.",
        ),
    ]

    def as_service(self, loop: Any, *args: Any, relay: bool = True, **kwargs: Any) -> ServiceT:
        if isinstance(self.app.tables, TableManager):
            self.app.tables.runs_relay = relay
        return super().as_service(loop, *args, **kwargs)

    def _banner_data(self, worker: Any) -> Any:
        # Faust's shows URLs as they are, and banners end up in logs.
        broker, store = self.app.conf.broker, self.app.conf.store
        shown = {
            "transport": (str(broker), BrokerUrl.of_parts([str(url) for url in broker]).shown),
            "store": (str(store), _without_password(URL(str(store)))),
        }
        return [
            (name, text.replace(*shown[name]) if name in shown else text)
            for name, text in super()._banner_data(worker)
        ]


def _without_password(url: URL) -> str:
    options = {name: text for name, text in url.query.items() if "password" not in name}
    return str((url.with_password(None) if url.password else url).with_query(options))
