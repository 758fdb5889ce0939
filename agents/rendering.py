"""Notifications as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from pydantic import JsonValue, ValidationError

from agents.errors import NoticeUnusable
from models.envelope import explain
from models.events import NotificationKind
from models.money import format_money
from models.notices import FACTS


class Rendered(NamedTuple):
    """A notification in its three parts."""

    subject: str
    text: str
    html: str


_templates: Final = Environment(
    loader=PackageLoader("agents"),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    auto_reload=False,  # it would look at the files for each mail
)
_templates.filters["money"] = format_money


def render(kind: NotificationKind, data: Mapping[str, JsonValue]) -> Rendered:
    """Fill in ``<kind>.txt``, whose first line is the subject, and ``<kind>.html``.

    Raises :class:`~agents.errors.NoticeUnusable` where ``data`` lacks what the templates need.
    """
    try:
        facts = dict(FACTS[kind].model_validate(data))
    except ValidationError as error:
        raise NoticeUnusable(f"data of {kind}: {explain(error)}") from None
    subject, _, text = _templates.get_template(f"{kind}.txt").render(facts).partition("\n\n")
    return Rendered(subject, text, _templates.get_template(f"{kind}.html").render(facts))
