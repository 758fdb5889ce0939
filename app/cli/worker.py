"""``redfaust worker``."""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import suppress

import click


@click.group(invoke_without_command=True)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port of the worker's own web API; 0 takes a free one.",
)
@click.option(
    "--name",
    help="Name of the worker. Started again under it, the worker gets its partitions back."
    "  [default: FAUST_WORKER_NAME, or host and process]",
)
@click.option(
    "--relay/--no-relay",
    default=True,
    show_default=True,
    help="Also publish what the outbox holds, or stand by for it.",
)
@click.pass_context
def command(context: click.Context, port: int, name: str | None, relay: bool) -> None:
    """Run a worker: the agents that process the events, and a relay.

    Any number of workers share the work. SIGTERM or Ctrl-C stops a worker.
    """
    if context.invoked_subcommand is not None:
        return
    gc.disable()  # what is loaded stays: to look for garbage in it takes a tenth of the start
    # Imported here, since they take a while that --help need not wait.
    from app.settings import Settings  # noqa: PLC0415

    settings = Settings.load()
    from app import worker  # noqa: PLC0415
    from redfaust.brokers.membership import NAME  # noqa: PLC0415

    gc.enable()
    if name is not None:
        os.environ[NAME] = name
    worker.run(settings, port=port, relay=relay)


@command.command("drain")
@click.argument("name")
@click.option("--back", is_flag=True, help="Give the worker its share again.")
def drain_worker(name: str, back: bool) -> None:
    """Make a worker hand over its partitions. It gets no others.

    A drained worker can be stopped without a pause for anybody. NAME is the worker's name as
    `redfaust workers` shows it. It stays drained until --back, also when it is started again under
    its name. A worker that is alone keeps its partitions.
    """
    from app.broker import open_broker  # noqa: PLC0415 - help does without
    from app.settings import Settings  # noqa: PLC0415
    from redfaust.brokers.draining import drain  # noqa: PLC0415
    from redfaust.printable import printable  # noqa: PLC0415

    settings = Settings.load()

    async def run() -> None:
        async with open_broker(settings) as broker:
            await drain(broker, settings.app_id, name, back=back)

    asyncio.run(run())
    shown = printable(name)
    click.echo(f"{shown} gets its share again." if back else f"{shown} hands over what it has.")


@command.command("forget")
@click.argument("name")
@click.option("--relay", is_flag=True, help="NAME is that of a relay.")
def forget_worker(name: str, relay: bool) -> None:
    """Forget a worker that was lost, so that the status no longer reports it.

    NAME is the worker's name as `redfaust status` shows it. A lost worker is forgotten after a
    quarter of an hour anyway, if another worker runs. A worker that is alive after all comes back
    by itself.
    """
    from app.broker import open_broker  # noqa: PLC0415 - help does without
    from app.settings import Settings  # noqa: PLC0415
    from redfaust.brokers.forgetting import forget  # noqa: PLC0415
    from redfaust.errors import WorkerUnknown  # noqa: PLC0415
    from redfaust.outbox.relay_member import GROUP  # noqa: PLC0415
    from redfaust.printable import printable  # noqa: PLC0415

    settings = Settings.load()

    async def run() -> None:
        async with open_broker(settings) as broker:
            if relay:
                await forget(broker, GROUP, name)
                return
            await forget(broker, settings.app_id, name)
            with suppress(WorkerUnknown):  # its relay has its name, and may have been forgotten
                await forget(broker, GROUP, name)

    asyncio.run(run())
    click.echo(f"{printable(name)} is forgotten.")
