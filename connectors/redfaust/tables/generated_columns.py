"""Columns of their own for the fields of a row's model.

They are generated from the value by Postgres, so there is one way to write a row and it can be
read like any other table: ``SELECT status FROM order_states``.
"""

from __future__ import annotations

import enum
import types
import typing
from typing import Any, NamedTuple

from pydantic import BaseModel

from redfaust.postgres.identifiers import identifier, literal, stored_name

OWN_COLUMNS = frozenset(
    {"key", "value", "partition", "updated_at"}
    | {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}  # Postgres's
)
"""What every table has; a field of such a name is read from ``value``."""


class TypedColumn(NamedTuple):
    """A column that Postgres fills from ``value``."""

    field: str
    sql_type: str
    expression: str

    @property
    def name(self) -> str:
        """Quoted."""
        return identifier(self.field)

    @property
    def stored_name(self) -> str:
        """As Postgres keeps it."""
        return stored_name(self.field)

    @property
    def definition(self) -> str:
        """What the column is known by."""
        return f"{self.sql_type}: {self.expression}"


def generated_columns(value_type: Any) -> list[TypedColumn]:
    """One for each field, if the values are of a pydantic model; otherwise none."""
    if not (isinstance(value_type, type) and issubclass(value_type, BaseModel)):
        return []
    return [
        _column(name, field.serialization_alias or name, field.annotation)
        for name, field in value_type.model_fields.items()
        if name not in OWN_COLUMNS
    ]


_JSON_TYPES = {"boolean": "boolean", "numeric": "number", "double precision": "number"}


def _column(name: str, written_as: str, annotation: Any) -> TypedColumn:
    sql_type, field = _sql_type(_without_none(annotation)), literal(written_as)
    if sql_type == "jsonb":
        return TypedColumn(name, sql_type, f"value -> {field}")
    if sql_type == "text":
        return TypedColumn(name, sql_type, f"value ->> {field}")
    # NULL where it is something else, in rows of another release or edited by hand: no row is
    # refused because of a column.
    cast = f"(value ->> {field})::{sql_type}"
    is_one = f"jsonb_typeof(value -> {field}) = {literal(_JSON_TYPES[sql_type])}"
    return TypedColumn(name, sql_type, f"CASE WHEN {is_one} THEN {cast} END")


def _without_none(annotation: Any) -> Any:
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        rest = [a for a in typing.get_args(annotation) if a is not types.NoneType]
        if len(rest) == 1:
            return rest[0]
    return annotation


def _sql_type(annotation: Any) -> str:
    """Times stay texts: Postgres does not generate what depends on the session's time zone."""
    if not isinstance(annotation, type):
        return "jsonb"
    if issubclass(annotation, bool):
        return "boolean"
    if issubclass(annotation, int):
        return "numeric"  # Python's integers are larger than a bigint
    if issubclass(annotation, float):
        return "double precision"
    if issubclass(annotation, str | enum.Enum) or annotation.__module__ in {"datetime", "uuid"}:
        return "text"
    return "jsonb"
