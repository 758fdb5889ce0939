"""Templates of the pages, and how numbers and times read on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from models.money import format_money
from redfaust.printable import printable

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR


def page(template: str, data: Mapping[str, Any], *, status: int = HTTPStatus.OK) -> HTMLResponse:
    """A rendered template."""
    return HTMLResponse(_templates.get_template(template).render(data), status)


def duration(seconds: float) -> str:
    """In its two largest units at most: ``0.4 s``, ``12 s``, ``3 min``, ``2 h 5 min``, ``4 d``."""
    if seconds < 1:
        return f"{max(seconds, 0):.1f} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"
    return f"{seconds // _DAY:.0f} d"


def ago(at: datetime) -> str:
    """How long ago a time is."""
    return f"{duration((datetime.now(UTC) - at).total_seconds())} ago"


def ranges(numbers: Iterable[int]) -> str:
    """Sorted numbers with neighbours joined: ``0–3, 7``."""
    parts = []
    for _, group in groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}")
    return ", ".join(parts)


def shown(value: Any) -> Any:
    """A value as pages show it: what commands the direction of text, or controls anything else, is
    escaped, so that nobody's text passes for ours."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, keep=_HARMLESS)
    return value


_HARMLESS: Final = "\n\t\r\u200b\u200c\u200d\u00a0\u00ad\u202f\u2009"
"""Not printable to a terminal, and harmless on a page: spaces, and what joins letters or emoji."""

_templates: Final = Environment(
    loader=PackageLoader("app.web"),
    autoescape=True,
    finalize=shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {
    "ago": ago,
    "duration": duration,
    "money": format_money,
    "number": lambda number: f"{number:,}",
    "ranges": ranges,
    "utc": lambda at: f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
}
