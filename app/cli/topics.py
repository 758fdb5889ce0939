"""``redfaust topics``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from app.settings import MAX_PARTITIONS, Given, Settings, variable
from redfaust.printable import printable


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the shop's topics: partitions, entries, and what it has not finished of them.

    Partition 0 of the topic orders is the stream {orders:0} in Redis. Other programs may append
    entries to it by XADD.
    """
    if context.invoked_subcommand is None:
        _list(as_json)


@command.command("alter")
@click.option(
    "--partitions",
    type=click.IntRange(1, MAX_PARTITIONS),
    required=True,
    help="How many each topic is to have.",
)
@click.option(
    "--leave-alone",
    "left_alone",
    multiple=True,
    metavar="TABLE",
    help="A table whose rows belong to partitions and not to keys of events.",
)
def alter_topics(partitions: int, left_alone: tuple[str, ...]) -> None:
    """Give all topics of the shop more partitions, so that more workers share the work.

    All events must have been processed, and all workers and relays stopped. Otherwise the command
    changes nothing and names the reason. The web API may keep running: what it accepts meanwhile is
    processed afterwards. If the command is interrupted, run it again.
    """
    from app.shop import create_shop  # noqa: PLC0415 - imports Faust, which --help does without
    from redfaust.tables.alteration import Altered, alter_partitions  # noqa: PLC0415

    async def run() -> Altered:
        async with _servers() as settings:
            return await alter_partitions(create_shop(settings), partitions, left_alone=left_alone)

    altered = asyncio.run(run())
    if not altered.topics:
        click.echo(f"All topics have {partitions} partitions already.")
        return
    for topic, before in altered.topics.items():
        click.echo(printable(f"topic {topic}: {before} partitions before, {partitions} now"))
    for table, rows in altered.rows.items():
        click.echo(f"table {table}: {rows} rows moved")
    click.echo(f"Set {variable('partitions')}={partitions}, for topics that are new.")


@command.command("forget-group")
@click.argument("name")
def forget_consumer_group(name: str) -> None:
    """Stop keeping entries for a consumer group that is gone for good.

    NAME is a group as `redfaust status` or XINFO GROUPS shows it. Topics on which a worker of the
    group still works are left alone. A group that comes back begins at the oldest entry of that
    time.
    """
    settings = Settings.load()
    from app.broker import open_broker  # noqa: PLC0415 - help does without
    from app.groups import Forgotten, forget_group  # noqa: PLC0415

    async def run() -> Forgotten:
        async with open_broker(settings) as broker:
            return await forget_group(broker, name)

    forgotten = asyncio.run(run())
    click.echo(printable(f"{name} is forgotten on {', '.join(forgotten.topics)}."))
    if forgotten.left:
        click.echo(printable(f"It is at work on {', '.join(forgotten.left)}."))


@asynccontextmanager
async def _servers() -> AsyncIterator[Settings]:
    """Those that are named, or else the embedded ones, which do not run while nothing else does."""
    from app.servers import SHELL, running_servers  # noqa: PLC0415

    given = Given.load()
    if given.broker is not None and given.database is not None:
        yield Settings.load()
    else:
        async with running_servers(given) as installation:
            yield installation.settings_of(SHELL)


def _list(as_json: bool) -> None:
    settings = Settings.load()
    rows = asyncio.run(_rows(settings))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("No topics yet: a worker declares them when it starts.")
        return
    rows = [{**row, "topic": printable(str(row["topic"]))} for row in rows]
    width = max(len(str(row["topic"])) for row in rows)
    click.echo(f"{'topic':{width}}  partition    length       lag")
    for row in rows:
        click.echo(
            f"{row['topic']:{width}}  {row['partition']:>9}  {row['length']:>8}  {row['lag']:>8}"
        )


async def _rows(settings: Settings) -> list[dict[str, str | int]]:
    from app.broker import open_broker  # noqa: PLC0415 - help does without it
    from app.status.broker_facts import ask_logs  # noqa: PLC0415
    from app.status.watch import lag_of  # noqa: PLC0415

    app = settings.app_id
    async with open_broker(settings) as broker:
        return [
            {
                "topic": printable(tp.topic),
                "partition": tp.partition,
                "length": survey.length,
                "lag": lag_of(survey, app),
            }
            for tp, survey in (await ask_logs(broker, app)).items()
        ]
