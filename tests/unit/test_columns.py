"""Values on their way into the database: as Faust writes them, and refused where it refuses."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import faust
import orjson
import pytest

from connectors.tables.columns import Column, value_column
from connectors.tables.store import own_copy


class Point(faust.Record):
    x: int


VALUES = [
    0,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**63) - 1,
    True,
    1.5,
    float("nan"),
    "text",
    "a\0b",
    "\ud800",
    "\\u0000",
    None,
    [1, [2, {"a": None}]],
    {"a": 1, 5: [True], "when": datetime(2026, 1, 1, tzinfo=UTC), "id": UUID(int=3)},
    {"amount": Decimal("1.25"), "point": Point(x=1)},
    pytest.param({"a": object()}, id="no JSON"),
    Point(x=3),
    b"5",
]


@pytest.fixture
def columns() -> tuple[Column, Column]:
    """The short way, and Faust's."""
    registry = faust.App("test", broker="memory://columns", store="memory://").serializers

    def dumps(value: Any) -> bytes | None:
        return registry.dumps_value(None, value, serializer="json")

    short = value_column(None, "json", dumps, orjson.loads)
    return short, value_column(None, "json|raw", dumps, orjson.loads)


def outcome(column: Column, value: Any) -> Any:
    try:
        return column.encode(value)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_is_written_as_faust_writes_it(columns: tuple[Column, Column], value: Any) -> None:
    short, fausts = columns
    assert outcome(short, value) == outcome(fausts, value)


def test_what_is_read_can_be_changed_without_changing_the_row() -> None:
    row = {"items": [1, {"tags": {"a"}}], "more": OrderedDict(a=[1]), "pair": ([1],), "n": None}
    copy = own_copy(row)
    assert copy == row
    copy["items"][1]["tags"].add("b")
    copy["items"].append(2)
    copy["more"]["a"].append(2)
    copy["pair"][0].append(2)
    assert row == {
        "items": [1, {"tags": {"a"}}],
        "more": OrderedDict(a=[1]),
        "pair": ([1],),
        "n": None,
    }
