"""``redfaust worker``."""

from __future__ import annotations

import click

from app.settings import Settings


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port of the worker's own web API; 0 takes a free one.",
)
def command(port: int) -> None:
    """Run a worker: the agents that process the events.

    Start as many as you like; they share the work. SIGTERM or Ctrl-C stops it.
    """
    settings = Settings.load()
    from app import worker  # noqa: PLC0415 - imports Faust, which --help does without

    worker.run(settings, port=port)
