"""Which columns a row's model gets."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel

from redfaust.tables.generated_columns import generated_columns


class Colour(StrEnum):
    RED = "red"


class Row(BaseModel):
    name: str
    number: int | None
    weight: float
    done: bool
    colour: Colour | None = None
    at: datetime
    items: tuple[int, ...]
    value: str
    updated_at: datetime


def test_each_field_has_a_column_of_its_type() -> None:
    assert {column.field: column.sql_type for column in generated_columns(Row)} == {
        "name": "text",
        "number": "numeric",
        "weight": "double precision",
        "done": "boolean",
        "colour": "text",
        "at": "text",
        "items": "jsonb",
    }


def test_values_without_a_model_have_none() -> None:
    assert generated_columns(None) == generated_columns(int) == []


def test_names_are_quoted() -> None:
    column = generated_columns(type("Odd", (BaseModel,), {"__annotations__": {"it's": str}}))[0]
    assert column.expression == "value ->> 'it''s'"
    assert column.name == '"it\'s"'
