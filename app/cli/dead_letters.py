"""``redfaust dead-letters``: look at events that failed, replay them or give them up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

import click
import orjson
from click.core import ParameterSource

from app.errors import NothingToReplay
from app.settings import Settings
from redfaust.postgres.database import Database
from redfaust.postgres.migrate import migrate
from redfaust.printable import printable
from redfaust.processing.dead_letters import (
    DeadLetter,
    DeadLetterHeading,
    DeadLetters,
    DeadLetterState,
)
from redfaust.processing.redaction import masked_text, preview, preview_named

REPLAY_BATCH = 500
"""Dead letters replayed in one transaction."""

SHOWN_HEADERS = 10
"""Headers of each dead letter that a list shows."""
SHOWN_OF_EACH = 120
"""Characters of a key, or a header, in a list."""
SHOWN_OF_ERROR = 300
"""Characters of an error in a list."""

_NUMBER = click.IntRange(1, 2**63 - 1)


@click.group(name="dead-letters")
def command() -> None:
    """Events that failed for good.

    A dead letter waits until it is replayed onto its topic or discarded. Values are shown masked
    and shortened; `show --raw` gives the exact bytes.

    \b
    redfaust dead-letters list
    redfaust dead-letters show 17
    redfaust dead-letters replay 17
    redfaust dead-letters show 17 --raw > order.json   (edit it)
    redfaust dead-letters replay 17 --value order.json
    """


@command.command("list")
@click.option("--app", envvar="REDFAUST_APP_ID", help="Only those of this app.")
@click.option("--topic", help="Only those of this topic.")
@click.option("--agent", help="Only those of this agent.")
@click.option("--error", help="Only those with this class of error, as it is listed.")
@click.option(
    "--state",
    type=click.Choice([*(state.value for state in DeadLetterState), "all"]),
    default=DeadLetterState.WAITING.value,
    show_default=True,
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--after", type=_NUMBER, metavar="ID", help="Those behind this one: the next page.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_letters(
    app: str | None,
    topic: str | None,
    agent: str | None,
    error: str | None,
    state: str,
    limit: int,
    after: int | None,
    as_json: bool,
) -> None:
    """List dead letters, the newest first, with their errors, keys and headers."""

    async def read() -> Sequence[DeadLetterHeading]:
        wanted = None if state == "all" else DeadLetterState(state)
        async with _opened() as letters:
            return await letters.list(
                app=app,
                topic=topic,
                agent=agent,
                error_type=error,
                state=wanted,
                after=after,
                limit=limit,
            )

    found = asyncio.run(read())
    if as_json:
        _print_json([_summary(letter) for letter in found])
        return
    if not found:
        click.echo("No dead letters." if state == "all" else f"No dead letters are {state}.")
    for letter in found:
        _print_heading(letter)
    if len(found) == limit:
        click.echo(f"There may be more: add --after {found[-1].id}")


@command.command("show")
@click.argument("number", type=_NUMBER, metavar="ID")
@click.option("--raw", is_flag=True, help="Write the exact bytes of the value, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show(number: int, raw: bool, as_json: bool) -> None:
    """Show everything about one dead letter."""

    async def read() -> DeadLetter:
        async with _opened() as letters:
            return await letters.get(number)

    letter = asyncio.run(read())
    if raw:
        click.get_binary_stream("stdout").write(letter.value or b"")
    elif as_json:
        _print_json(_detail(letter))
    else:
        _print_detail(_detail(letter))


@command.command("replay")
@click.argument("numbers", type=_NUMBER, nargs=-1, metavar="[ID]...")
@click.option("--topic", help="All of this topic that wait.")
@click.option("--agent", help="All of this agent that wait.")
@click.option("--error", help="All that wait with this class of error, as it is listed.")
@click.option("--all", "everything", is_flag=True, help="All that wait.")
@click.option("--app", envvar="REDFAUST_APP_ID", help="Without IDs: only those of this app.")
@click.option(
    "--value", type=click.File("rb"), help="File with another value for one ID; - reads stdin."
)
def replay(
    numbers: tuple[int, ...],
    topic: str | None,
    agent: str | None,
    error: str | None,
    everything: bool,
    app: str | None,
    value: BinaryIO | None,
) -> None:
    """Put dead letters back onto their topics, with their keys and headers.

    Each goes to the agent that failed on it, and to no other agent. --topic, --agent and --error
    may be combined.
    """
    filters = {"topic": topic, "agent": agent, "error_type": error}
    if [bool(numbers), any(filters.values()), everything].count(True) != 1:
        raise click.UsageError("name IDs, or --topic, --agent, --error, or --all")
    source = click.get_current_context().get_parameter_source("app")
    if source is ParameterSource.COMMANDLINE and numbers:
        raise click.UsageError("--app goes without IDs")
    if value is not None and len(numbers) != 1:
        raise click.UsageError("--value goes with one ID")
    given = None if value is None else value.read()

    async def run() -> int:
        async with _opened() as letters:
            chosen = numbers or await letters.waiting(app=app, **filters)
            if not chosen and (app is not None or not everything):
                raise NothingToReplay(_nothing(await letters.names(app), app, filters))
            await _replay(letters, chosen, given)
            return len(chosen)

    click.echo(f"Replayed {asyncio.run(run())}.")


@command.command("discard")
@click.argument("numbers", type=_NUMBER, nargs=-1, required=True, metavar="ID...")
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard(numbers: tuple[int, ...], yes: bool) -> None:
    """Discard dead letters. They stay readable, but can no longer be replayed."""
    if not yes:
        click.confirm(f"Discard {', '.join(map(str, numbers))} for good?", abort=True)

    async def run() -> None:
        async with _opened() as letters:
            await letters.discard(numbers)

    asyncio.run(run())
    click.echo(f"Discarded {len(numbers)}.")


@asynccontextmanager
async def _opened() -> AsyncIterator[DeadLetters]:
    url = Settings.load().database.get_secret_value()
    database = await Database.connect(url, application_name="redfaust dead-letters", max_size=1)
    try:
        await migrate(database)
        yield DeadLetters(database)
    finally:
        await database.close()


async def _replay(letters: DeadLetters, numbers: Sequence[int], value: bytes | None) -> None:
    batches = range(0, len(numbers), REPLAY_BATCH)
    with click.progressbar(
        batches, label="Replaying", file=sys.stderr, hidden=len(numbers) <= REPLAY_BATCH
    ) as bar:
        for start in bar:
            await letters.replay(numbers[start : start + REPLAY_BATCH], value=value)


def _nothing(
    names: Mapping[str, Mapping[str, int]], app: str | None, filters: Mapping[str, str | None]
) -> str:
    """Says that nothing waits that was asked for, and what does."""
    asked = {"app": app, **{name.removesuffix("_type"): of for name, of in filters.items()}}
    wanted = " and ".join(f"{name} {value}" for name, value in asked.items() if value is not None)
    there = "; ".join(
        f"{what}: {', '.join(f'{name} ({count})' for name, count in counts.items())}"
        for what, counts in names.items()
    )
    about = f" of {wanted}" if wanted else ""
    found = f"there are {there}" if there else "none does at all"
    return f"no dead letter{about} waits: {found}"


def _print_heading(letter: DeadLetterHeading) -> None:
    key = "-" if letter.key is None else preview(letter.key)
    where = f"{letter.topic}:{letter.partition}"
    click.echo(
        f"{letter.id:>6}  {letter.created_at:%Y-%m-%d %H:%M:%S}  {letter.state.value:<9}  "
        f"{printable(where)}  {printable(letter.agent or '-')}  {printable(letter.error_type)}  "
        f"key {key[:SHOWN_OF_EACH]}  {letter.preview}"
    )
    click.echo(f"{'':6}  error: {printable(masked_text(letter.error))[:SHOWN_OF_ERROR]}")
    for name, value in letter.headers[:SHOWN_HEADERS]:
        shown = f"{printable(name)}: {preview_named(name, value)}"
        click.echo(f"{'':6}  header {shown[:SHOWN_OF_EACH]}")


def _summary(letter: DeadLetter | DeadLetterHeading) -> dict[str, Any]:
    return {
        "id": letter.id,
        "state": letter.state.value,
        "app": letter.app,
        "agent": letter.agent,
        "topic": letter.topic,
        "partition": letter.partition,
        "position": str(letter.position),  # up to 39 digits, which JSON readers round
        "created_at": letter.created_at.isoformat(),
        "key": None if letter.key is None else preview(letter.key),
        "headers": [[name, preview_named(name, value)] for name, value in letter.headers],
        "size": letter.size,
        "error_type": letter.error_type,
        "error": printable(masked_text(letter.error), keep="\n"),
        "correlation_id": letter.correlation_id,
        "preview": letter.preview,
    }


def _detail(letter: DeadLetter) -> dict[str, Any]:
    return {
        **_summary(letter),
        "resolved_at": letter.resolved_at and letter.resolved_at.isoformat(),
        "attempts": letter.attempts,
        "traceback": printable(masked_text(letter.traceback), keep="\n"),
    }


def _print_json(value: object) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def _print_detail(detail: dict[str, Any]) -> None:
    headers, trace = detail.pop("headers"), detail.pop("traceback")
    for name, value in detail.items():
        click.echo(
            f"{name.replace('_', ' '):<15} {'-' if value is None else printable(str(value))}"
        )
    for name, value in headers:
        click.echo(f"{'header':<15} {printable(name)}: {value}")
    click.echo(f"\n{trace.rstrip()}")
