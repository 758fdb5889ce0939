"""The command line. A command's module is imported when it is called, so that help is quick."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

import click

from app.errors import AppError, ServerFailed, SupervisorError

COMMANDS: Mapping[str, str] = {
    "up": "Run everything from this one command: servers, workers, relay, web API and a demo.",
    "worker": "Run a worker: the agents that process the events. `worker drain` empties one.",
    "workers": "Show the workers with their partitions, and the relays.",
    "web": "Run the web API and the status page.",
    "relay": "Publish what the outbox holds onto its topics.",
    "migrate": "Bring the database's schema up to this release.",
    "demo": "Play users, orders and a few failures through the running shop.",
    "status": "Show workers, topics with their lag, outbox and dead letters.",
    "topics": "List the topics with their partitions, give them more, forget a group.",
    "dead-letters": "List, show, replay or discard events that could not be processed.",
    "config": "Show every setting, its variable, its value and what it means.",
}


LOOP_OF_FAUST = ("FAUST_LOOP", "F_LOOP")
"""Variables by which Faust, once imported, has every later event loop be of another kind. They are
for ``faust -A``: our processes choose theirs, and uvloop starts no server as another user."""


class LazyGroup(click.Group):
    """Commands by name, each in the module of its name, as ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"app.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """An error of ours is one line, and exit code 1."""
        for name in LOOP_OF_FAUST:
            os.environ.pop(name, None)
        from redfaust.errors import RedfaustError  # noqa: PLC0415 - help does without it
        from redfaust.printable import printable  # noqa: PLC0415

        try:
            return super().invoke(ctx)
        except (AppError, RedfaustError) as error:
            # What somebody else wrote may be in it. Ends of logs have several lines.
            keep = "\n" if isinstance(error, SupervisorError | ServerFailed) else ""
            text = printable(str(error), keep=keep)
            raise click.ClickException(text) from error


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="redfaust")
def main() -> None:
    """Faust without Kafka: a shop on Redis Streams and Postgres.

    `redfaust up` needs nothing else: it starts a broker and a database of its own, and everything
    that works on them. The other commands then find them by the data directory, or by
    REDFAUST_BROKER and REDFAUST_DATABASE.

    \b
    redfaust up --port 7071        run it; Ctrl-C stops it, the data stay
    redfaust status                what is going on
    redfaust COMMAND --help        more about a command

    Settings are environment variables that begin with REDFAUST_; `redfaust config` explains them.
    """
