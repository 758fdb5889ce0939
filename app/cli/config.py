"""``redfaust config``."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass

import click
from pydantic import SecretStr

from app.settings import Given, Settings, SettingsError, variable

WIDTH = 78
MASK = "********"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, with nothing secret in it."""

    name: str
    variable: str
    default: str | int | None
    value: str | int | None
    description: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead.")
def command(as_json: bool) -> None:
    """Show every setting, its variable, its value and what it means.

    Values come from the environment; where it names no broker or database, from the `redfaust up`
    that runs in the data directory. Passwords and tokens are never shown.
    """
    settings = describe(_current())
    if as_json:
        click.echo(json.dumps([asdict(setting) for setting in settings], indent=2))
        return
    for setting in settings:
        click.secho(setting.variable, bold=True, nl=False)
        click.echo(
            f" = {_shown(setting.value)}   ({setting.name}; default {_shown(setting.default)})"
        )
        click.echo(
            textwrap.fill(
                setting.description, WIDTH, initial_indent="    ", subsequent_indent="    "
            )
        )


def describe(given: Given) -> list[Setting]:
    """Every setting; what is secret is masked."""
    return [
        Setting(
            name=name,
            variable=variable(name),
            default=_plain(field.default),
            value=_plain(getattr(given, name)),
            description=field.description or "",
        )
        for name, field in Given.model_fields.items()
    ]


def _current() -> Given:
    given = Given.load()
    try:
        return Settings.load()
    except SettingsError:  # none runs, which is no reason not to explain the settings
        return given


def _plain(value: object) -> str | int | None:
    if isinstance(value, SecretStr):
        return MASK
    return value if value is None or isinstance(value, int) else str(value)


def _shown(value: str | int | None) -> str:
    return "unset" if value is None else str(value)
