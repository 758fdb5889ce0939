"""``redfaust workers``."""

from __future__ import annotations

import asyncio

import click

from app.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Show the workers with their partitions, and the relays that publish the outbox.

    Of each partition: since when the worker owns it, and how many events are left. The owner of
    partition 3 works on partition 3 of every topic. The epoch grows with each new owner; a commit
    under an older epoch is refused.
    """
    settings = Settings.load()
    # Imported here, since they take a while that --help need not wait.
    from app.status.ownership import Ownership, ask_ownership, render  # noqa: PLC0415
    from app.web.services import open_services  # noqa: PLC0415

    async def ask() -> Ownership:
        async with open_services(settings) as services:
            assert services.broker is not None
            return await ask_ownership(services.broker, services.database, settings.app_id)

    ownership = asyncio.run(ask())
    click.echo(ownership.model_dump_json(indent=2) if as_json else render(ownership))
