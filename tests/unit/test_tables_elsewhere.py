"""Tables that Postgres does not keep, in an application whose others are there."""

from __future__ import annotations

import re
from typing import cast

import faust
import pytest
from faust.exceptions import ImproperlyConfigured

from redfaust.tables.manager import TableManager


def new_app() -> tuple[faust.App, TableManager]:
    app = faust.App(
        "test", broker="memory://elsewhere", store="postgresql://nobody/x", web_enabled=False
    )
    return app, cast(TableManager, app.tables)


def test_who_does_as_the_error_says_is_not_refused() -> None:
    app, tables = new_app()
    app.SetGlobalTable("prices")
    with pytest.raises(ImproperlyConfigured) as refusal:
        tables.postgres_tables()
    advice = re.search(r'store="(.+)"', str(refusal.value))
    assert advice is not None

    app, tables = new_app()
    app.SetGlobalTable("prices", store=advice[1])
    assert tables.postgres_tables() == []


def test_what_all_workers_have_lies_in_a_changelog() -> None:
    app, tables = new_app()
    app.GlobalTable("prices")
    app.GlobalTable("rates", store="postgresql://nobody/y")
    assert tables.postgres_tables() == []
    assert tables.topics_of_all == {"test-prices-changelog", "test-rates-changelog"}
