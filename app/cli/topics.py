"""``redfaust topics``."""

from __future__ import annotations

import asyncio
import json

import click

from app.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List the topics: partitions, entries, and what the shop has not finished of them.

    Partition 0 of the topic orders is the stream {orders:0} in Redis. Anybody may append to it,
    with XADD and fields of his own.
    """
    settings = Settings.load()
    rows = asyncio.run(_rows(settings))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("No topics yet: a worker declares them when it starts.")
        return
    width = max(len(str(row["topic"])) for row in rows)
    click.echo(f"{'topic':{width}}  partition    length       lag")
    for row in rows:
        click.echo(
            f"{row['topic']:{width}}  {row['partition']:>9}  {row['length']:>8}  {row['lag']:>8}"
        )


async def _rows(settings: Settings) -> list[dict[str, str | int]]:
    from connectors.transports.brokers import broker_by_url  # noqa: PLC0415 - help does without it

    broker = broker_by_url(
        settings.broker.get_secret_value(), default_partitions=settings.partitions
    )
    await broker.open()
    try:
        return [
            {"topic": topic, "partition": partition, "length": status.length, "lag": status.lag}
            for topic in await broker.topics()
            for partition, status in enumerate(await broker.status(settings.app_id, topic))
        ]
    finally:
        await broker.close()
