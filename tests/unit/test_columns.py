"""Values on their way into the database: as Faust writes them, and refused where it refuses."""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import faust
import orjson
import pytest
from faust.exceptions import ImproperlyConfigured
from pydantic import BaseModel, Field

from redfaust.tables.columns import Column, key_column, set_column, value_column
from redfaust.tables.store import own_copy


class Point(faust.Record):
    x: int


@dataclass(frozen=True)
class Place:
    x: int


class Colour(enum.Enum):
    RED = "red"


class Shade(str, enum.Enum):  # noqa: UP042 - the text of those is their value
    RED = "red"


class Account(BaseModel):
    balance: float = Field(default=0.0, ge=0)
    more: Any = None


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


@pytest.mark.parametrize(
    ("key_type", "key"),
    [
        (str, 5),
        (str, b"5"),
        (int, 5.0),
        (None, UUID(int=3)),
        (None, ("a", UUID(int=3))),
        (None, datetime(2026, 1, 1, tzinfo=UTC)),
        (None, Colour.RED),
        (None, Place(1)),
        (None, float("nan")),
        (None, True),
        (None, ("a", (1, False))),
        (tuple[str, float], ("a", float("inf"))),
    ],
    ids=repr,
)
def test_a_key_that_would_come_back_as_another_is_refused(key_type: Any, key: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"key_type|read again|NaN"):
        key_column(key_type, windowed=False).encode(key)


@pytest.mark.parametrize(
    ("key_type", "key"),
    [
        (None, ("a", (1, None))),
        (UUID, UUID(int=3)),
        (Colour, Colour.RED),
        (Place, Place(1)),
        (str, Shade.RED),
    ],
    ids=repr,
)
def test_a_key_comes_back(key_type: Any, key: Any) -> None:
    column = key_column(key_type, windowed=False)
    assert column.decode(column.encode(key)) == key


@pytest.mark.parametrize(
    "members", [{UUID(int=3)}, {Colour.RED}, {Place(1)}, {float("nan")}], ids=repr
)
def test_members_that_would_come_back_as_others_are_refused(members: set[Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=r"read again|NaN"):
        set_column(None).encode(frozenset(members))


def in_debt() -> Account:
    account = Account()
    account.balance = -1.0
    return account


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize("value", [in_debt(), Account(more=nested(210))])
def test_what_could_not_be_read_again_is_refused_without_its_values(value: Account) -> None:
    column = value_column(Account, "json", orjson.dumps, orjson.loads)
    with pytest.raises(ValueError, match="read again: Account: ") as refusal:
        column.encode(value)
    assert "-1.0" not in str(refusal.value)


def test_keys_of_a_dictionary_are_of_their_type_when_it_is_read() -> None:
    column = value_column(dict[int, str], "json", orjson.dumps, orjson.loads)
    assert column.decode(column.encode({5: "a"})) == {5: "a"}


class AtNoon(BaseModel, frozen=True):
    name: str
    at: datetime


class Priced(NamedTuple):
    price: Decimal


@pytest.mark.parametrize(
    "key_type",
    [
        datetime,
        Decimal,
        AtNoon,
        Priced,
        frozenset[str],
        tuple[str, datetime | None],
        Annotated[Decimal, Field(gt=0)],
        bool | int,
        Literal[1, True],
    ],
    ids=repr,
)
def test_a_type_whose_equal_values_have_several_texts_is_no_type_of_keys(key_type: Any) -> None:
    app = faust.App("keys", broker="memory://keys", store="memory://")
    with pytest.raises(ImproperlyConfigured, match="several rows"):
        app.Table("rows", key_type=key_type)


@pytest.mark.parametrize("value", [float("nan"), {"x": float("inf")}, [{"a": (float("nan"),)}]])
def test_what_json_has_no_number_for_is_no_value(
    columns: tuple[Column, Column], value: Any
) -> None:
    for column in (*columns, value_column(float, "json", orjson.dumps, orjson.loads)):
        with pytest.raises(ValueError, match="neither NaN nor infinity"):
            column.encode(value)


class Perhaps(BaseModel):
    amount: float | None = None
    parts: list[float] = []


@pytest.mark.parametrize(
    "value",
    [Perhaps(amount=float("nan")), Perhaps(parts=[float("-inf")])],
    ids=["optional", "nested"],
)
def test_what_json_has_no_number_for_is_in_no_model(value: Perhaps) -> None:
    column = value_column(Perhaps, "json", orjson.dumps, orjson.loads)
    with pytest.raises(ValueError, match="neither NaN nor infinity"):
        column.encode(value)
    assert column.decode(column.encode(Perhaps())) == Perhaps()


def test_a_large_integer_is_read_as_it_is(columns: tuple[Column, Column]) -> None:
    text = '{"a": 12345678901234567890123}'
    assert [column.decode(text) for column in columns[:1]] == [{"a": 12345678901234567890123}]
