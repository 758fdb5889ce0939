"""Keys and values of types that pydantic knows: its models, data classes, unions, lists of them.

A type that is neither Faust's nor plain is handed to pydantic, which reads it from the bytes of
JSON without a dictionary in between. What is read is validated, and so is what is written unless it
is of the type already: an event that its readers would refuse is refused where it is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import orjson
from faust.utils.json import on_default
from pydantic import (
    BaseModel,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticSerializationError

from redfaust import exact_json

FAUSTS_OWN = frozenset({None, str, bytes, int, float, Decimal})
"""Types for which Faust has a way of its own, as it has for what can ``from_data``."""

PROBLEMS_TOLD = 5
"""Of a value that is not of its type; how many more there are is said."""


class TypedValue(NamedTuple):
    """How values of one type are read and written."""

    loads: Callable[[bytes | str], Any]
    """From JSON. Raises pydantic's ValidationError, whose text holds what was wrong: show
    :func:`problems_of` instead."""
    from_data: Callable[[Any], Any]
    """From what a codec other than JSON has read. Raises the same."""
    dumps: Callable[[Any], bytes]
    """To JSON. What is not of the type is made one of it; raises ValueError if that cannot be."""
    dumps_exactly: Callable[[Any], bytes]
    """To JSON. Raises TypeError for what is not of the type."""
    to_data: Callable[[Any], Any]
    """To what any codec can write. Raises the same."""


def typed_value(kind: Any) -> TypedValue | None:
    """How to read and write a type, if that is pydantic's part.

    Raises TypeError for a type that pydantic does not know either.
    """
    if hasattr(kind, "from_data") or kind in FAUSTS_OWN:
        return None
    return _typed_value(kind)


@cache
def _typed_value(kind: Any) -> TypedValue:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise TypeError(f"neither Faust nor pydantic knows how to read {kind!r}") from error
    validate, write, as_data = adapter.validate_python, adapter.dump_json, adapter.dump_python
    # A model of another class is none, though pydantic would write it, without its fields.
    alien = _aliens(kind)

    def dumps(value: Any) -> bytes:
        try:
            return dumps_exactly(value)
        except TypeError:
            validated = _validated(validate, value)
            encoded = write(validated, by_alias=True)
            exact_json.check(validated, encoded)
            return encoded

    def dumps_exactly(value: Any) -> bytes:
        if not alien(value):
            with suppress(PydanticSerializationError):
                encoded = write(value, by_alias=True, warnings="error")
                exact_json.check(value, encoded)
                return encoded
        raise TypeError(f"{kind!r} is needed, and {type(value).__qualname__} is none throughout")

    def to_data(value: Any) -> Any:
        exact_json.check(value, b"null")
        if not alien(value):
            with suppress(PydanticSerializationError):
                return as_data(value, mode="json", by_alias=True, warnings="error")
        return as_data(_validated(validate, value), mode="json", by_alias=True)

    return TypedValue(adapter.validate_json, validate, dumps, dumps_exactly, to_data)


def _aliens(kind: Any) -> Callable[[Any], bool]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return lambda value: not isinstance(value, kind)
    return lambda _: False


def _validated(validate: Callable[[Any], Any], value: Any) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        raise ValueError(problems_of(error)) from None


def problems_of(error: ValidationError) -> str:
    """What is wrong, each with the path of its field, such as ``Order: items.0.sku: …``.

    Not the values: they may be secret, and whoever may see them finds them with the event.
    """
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    told = [": ".join(filter(None, (_path(p["loc"]), p["msg"]))) for p in problems]
    if len(told) > PROBLEMS_TOLD:
        told[PROBLEMS_TOLD:] = [f"and {len(told) - PROBLEMS_TOLD} more"]
    return f"{error.title}: {'; '.join(told)}"


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))


def dumps_json(value: Any) -> bytes:
    """As Faust writes JSON, and pydantic's models wherever they are in it.

    Raises ValueError for NaN and infinity, and TypeError for an integer of more than 64 bits."""
    encoded = orjson.dumps(value, default=_as_json, option=_AS_FAUST)
    exact_json.check(value, encoded)
    return encoded


_AS_FAUST = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    return on_default(value)
