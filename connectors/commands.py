"""Commands of ``faust -A app …`` that have to do with where things are here."""

from __future__ import annotations

from faust.cli.reset import reset as faust_reset

from connectors.errors import ResetRefused
from connectors.tables import reset as tables
from connectors.tables.manager import TableManager


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
