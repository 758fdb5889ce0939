"""``redfaust up``."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

import click

from app.settings import Given, variable

NAME_WIDTH = 9
MAX_WORKERS = 64


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    default=1,
    show_default=True,
    help="Worker processes.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the web API and the status page; 0 takes a free one.  [default: REDFAUST_PORT]",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the servers keep their data.  [default: REDFAUST_DATA_DIR]",
)
@click.option("--no-demo", is_flag=True, help="Do not play the demo in a new shop.")
def command(workers: int, port: int | None, data_dir: Path | None, no_demo: bool) -> None:
    """Run everything from this one command.

    Starts a Valkey and a Postgres of its own (or uses REDFAUST_BROKER and REDFAUST_DATABASE),
    migrates, starts workers, relay and web API, plays a short demo in a new shop, and stays.
    A process that dies is started again.

    Ctrl-C or SIGTERM stops everything in order and keeps the data: started again with the same
    data directory, it goes on where it was. A second Ctrl-C hurries.

    \b
    redfaust up --port 7071
    redfaust up --port 7072 --data-dir /tmp/other --workers 2 --no-demo
    """
    options = {"port": port, "data_dir": data_dir}
    overrides = {variable(name): str(value) for name, value in options.items() if value is not None}
    given = Given.load({**os.environ, **overrides})
    from app.supervisor import Supervisor  # noqa: PLC0415 - --help does without

    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format=f"{'up':<{NAME_WIDTH}}| %(message)s"
    )

    async def run() -> None:
        await Supervisor(given, workers=workers, demo=not no_demo, say=_say).run()

    asyncio.run(run())


def _say(name: str, line: str) -> None:
    try:
        click.echo(f"{name:<{NAME_WIDTH}}| {line}")
    except OSError:  # nobody reads our output any more, which is no reason to stop
        return
