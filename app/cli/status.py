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

    Asks broker and database itself, so it also works while the web API does not run. Exits with 1
    if one of them cannot be reached or no worker is running.
    """
    settings = Settings.load()
    # Imported here, since they take a while that --help need not wait.
    from app.status import Status, collect  # noqa: PLC0415
    from app.status.text import render  # noqa: PLC0415
    from app.web.services import open_services  # noqa: PLC0415

    async def ask() -> Status:
        async with open_services(settings) as services:
            return await collect(services, settings)

    status = asyncio.run(ask())
    click.echo(status.model_dump_json(indent=2) if as_json else render(status))
    if status.problems or not status.workers:
        sys.exit(1)
