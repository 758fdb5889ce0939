"""``redfaust demo``."""

from __future__ import annotations

import asyncio

import click

from app.settings import Settings


@click.command()
@click.option("--url", help="Of the web API.  [default: from REDFAUST_HOST and REDFAUST_PORT]")
def command(url: str | None) -> None:
    """Play users, orders and a few failures through the running shop.

    Signs up users, fills carts and places orders over HTTP; then does what others might do: an
    order of an old version by plain SQL, garbage on a topic, a status by SQL, a mail address that
    does not exist. Every run makes new users, so it may be run again and again.
    """
    settings = Settings.load()
    from app.demo import play  # noqa: PLC0415 - imports what --help does without

    asyncio.run(play(settings, url, click.echo))
