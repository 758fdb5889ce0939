"""``redfaust web``."""

from __future__ import annotations

import click

from app.settings import Settings


@click.command()
def command() -> None:
    """Run the web API and the status page.

    Listens on REDFAUST_HOST and REDFAUST_PORT. The API is described at /docs. SIGTERM or Ctrl-C
    stops it.
    """
    settings = Settings.load()
    from app.web.server import run  # noqa: PLC0415 - imports the web framework, which --help does without

    run(settings)
