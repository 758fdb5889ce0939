"""``redfaust status``."""

from __future__ import annotations

import asyncio
import sys

import click

from app.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the same as GET /api/status.")
def command(as_json: bool) -> None:
    """Show workers, topics with their lag, outbox and dead letters.

    Asks broker and database itself, so it also works while the web API does not run, and shows
    what one of them knows while the other is away. Exits with 1 if something is wrong.

    REDFAUST_APP_ID names the application, if it is not the shop.
    """
    settings = Settings.load()
    # Imported here, since they take a while that --help need not wait.
    from app.status import Status, Watch  # noqa: PLC0415
    from app.status.sources import open_sources  # noqa: PLC0415
    from app.status.text import render  # noqa: PLC0415
    from app.status.watch import PATIENCE_AT_ONCE  # noqa: PLC0415

    async def ask() -> Status:
        async with open_sources(settings) as sources:
            watch = Watch(sources, settings.app_id, patience=PATIENCE_AT_ONCE)
            status = await watch.look()
            # At once, since to disconnect from a server that hangs takes a while.
            click.echo(status.model_dump_json(indent=2) if as_json else render(status))
            await watch.close()
            return status

    if not asyncio.run(ask()).is_well:
        sys.exit(1)
