"""How keys and values of a table become columns, and back."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from datetime import datetime, time
from decimal import Decimal
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import orjson
from faust.exceptions import DecodeError, ImproperlyConfigured
from faust.models import maybe_model
from pydantic import BaseModel, ValidationError

from redfaust import exact_json
from redfaust.processing.encoding import PLAIN
from redfaust.processing.serializers import is_fausts_own
from redfaust.processing.typed_values import TypedValue, dumps_json, problems_of, typed_value

SMALLEST, LARGEST = -(2**63), 2**64 - 1
"""The integers that orjson writes. What is larger fails as anything fails that is no JSON."""


def _as_lines(encoded: Sequence[Any]) -> str:
    return "\n".join(map(str, encoded))


def _as_hexadecimal_lines(encoded: Sequence[bytes]) -> str:
    return "\n".join([f"\\x{each.hex()}" for each in encoded])


def _as_json(encoded: Sequence[str]) -> str:
    return orjson.dumps(encoded).decode()


@dataclass(frozen=True)
class Column:
    """One column: its type, and the way there and back."""

    sql_type: str
    wire_type: str
    """Type of the parameters. JSON travels as text, encoded once and not again by the driver."""
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    as_it_is: type | None = None
    """A value of this type goes in as it is, once ``encode`` has let it pass."""
    takes_integers: bool = False
    """Whether integers from :data:`SMALLEST` to :data:`LARGEST` go in as their ``str``, taken for
    sure."""
    pack: Callable[[Sequence[Any]], str] = _as_lines
    """One text of many that are encoded: asyncpg asks each item of an array four times what it is,
    and takes a text as it is. JSON has no line breaks here."""
    unpack: str = "string_to_table({}, E'\\n')"
    """What makes a column of texts of that in Postgres."""

    @property
    def cast(self) -> str:
        """What to add to the column's name to read it in its wire type."""
        return f"::{self.wire_type}" if self.wire_type != self.sql_type else ""


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no str, as the table's key_type has it")
    text = str.__str__(value)  # of an enum its value, which is equal to it
    if "\x00" in text:
        raise ValueError(_NUL)
    if not text.isascii():
        text.encode()  # raises what a lone surrogate would raise at the commit
    return text


def _bigint(value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{value!r} is no int, as the table's key_type has it") from None
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"Postgres cannot store {number} as a key: it has more than 64 bits")
    return number


def _bytes(value: Any) -> bytes:
    return bytes(memoryview(value))


def _storable(json: str) -> str:
    if "\\u0000" in json and _ESCAPED_NUL.search(json):
        raise ValueError(_NUL)
    return json


_NUL = "Postgres cannot store the character NUL: remove it from the event"
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""Not the text of a backslash and ``u0000``, whose backslash is escaped."""


def _hashable(value: Any) -> Any:
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value


TEXT = Column(
    "text",
    "text",
    _text,
    _same,
    as_it_is=str,
    pack=_as_json,
    unpack="json_array_elements_text({}::json)",
)
INTEGER = Column("bigint", "bigint", _bigint, _same, as_it_is=int)
BYTES = Column("bytea", "bytea", _bytes, _same, pack=_as_hexadecimal_lines)


def key_column(key_type: Any, *, windowed: bool) -> Column:
    """Text, integer and bytes keys are columns of their own type, all others are JSON.

    The key of a windowed table is ``[key, [start, end]]``, in seconds since the epoch.
    """
    own = {str: TEXT, int: INTEGER, bytes: BYTES}.get(key_type)
    if own is not None or _is_plain(key_type) or key_type is tuple:
        return _JSON_KEY if windowed or own is None else own
    typed = typed_value(tuple[key_type, tuple[float, float]] if windowed else key_type)
    return _JSON_KEY if typed is None else _typed_key(typed)


def check_key_type(key_type: Any) -> None:
    """Raises ImproperlyConfigured for a type of which equal values have several texts: one key
    would have several rows, and its events lie in several partitions."""
    if (kind := _with_several_texts(key_type)) is not None:
        raise ImproperlyConfigured(
            f"key_type={key_type!r}: equal values of {kind} have several texts, as 12:00Z and "
            "13:00+01:00 have, so that one key would have several rows. Use a str or an int that "
            "is made from it, such as at.astimezone(UTC).isoformat()"
        )


_SEVERAL_TEXTS = (datetime, time, Decimal, frozenset, set)


def _with_several_texts(kind: Any) -> Any:
    if isinstance(kind, type) and issubclass(kind, _SEVERAL_TEXTS):
        return kind.__name__
    origin, parts = get_origin(kind), get_args(kind)
    if origin in _SEVERAL_TEXTS:
        return origin.__name__
    if origin in {Union, UnionType} and bool in parts and not {int, float}.isdisjoint(parts):
        return "bool and int"
    if origin is Literal:
        numbers = {type(part) for part in parts} & {bool, int}
        return "bool and int" if len(numbers) > 1 else None
    if origin is Annotated:
        parts = parts[:1]
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        parts = tuple(field.annotation for field in kind.model_fields.values())
    elif isinstance(kind, type) and (is_dataclass(kind) or hasattr(kind, "_fields")):
        parts = tuple(get_type_hints(kind).values())
    return next(filter(None, map(_with_several_texts, parts)), None)


def value_column(
    value_type: Any,
    serializer: Any,
    dumps: Callable[[Any], bytes | None],
    loads: Callable[[bytes], Any],
) -> Column:
    """JSON: by pydantic where the type is for it, by Faust's serializers otherwise.

    What JSON has by itself (a list, a dictionary, a number) takes the short way in, where the
    serializer is Faust's own, and needs no type of Faust's on the way out.
    """
    if value_type is bytes:
        return BYTES
    typed = None if _is_plain(value_type) else typed_value(value_type)
    if typed is not None:
        return _typed(typed)

    def encode(value: Any) -> str:
        text = (dumps(value) or b"null").decode()
        # A line break is between JSON's tokens, where it is as good as a space.
        return _storable(text.replace("\n", " "))

    def encode_plain(value: Any) -> str:
        if type(value) is int and SMALLEST <= value <= LARGEST:
            return str(value)
        return _storable(dumps_json(value).decode()) if type(value) in PLAIN else encode(value)

    def decode(text: str) -> Any:
        return loads(text.encode())

    def encode_readable(value: Any) -> str:
        _read_again(text := encode(value), decode)
        return text

    if not _is_plain(value_type):
        return Column("jsonb", "text", encode_readable, decode)
    if is_fausts_own(serializer, "json"):
        return Column("jsonb", "text", encode_plain, exact_json.loads, takes_integers=True)
    return Column("jsonb", "text", encode, exact_json.loads)


def set_column(member_type: Any) -> Column:
    """JSON arrays, in no order. Members are what pydantic makes of their type, or what JSON holds:
    tuples for its arrays, and models of Faust's."""
    if not _is_plain(member_type) and typed_value(member_type) is not None:
        typed = typed_value(frozenset[member_type])
        assert typed is not None
        return _typed(typed)
    return Column("jsonb", "text", _encode_set, _decode_set)


def _encode_set(members: frozenset[Any]) -> str:
    text = _storable(dumps_json(list(members)).decode())
    if _read_again(text, _decode_set) != members:
        raise TypeError("Members would be read again as others: give the table their value_type")
    return text


def _decode_set(text: str) -> frozenset[Any]:
    return frozenset(_hashable(maybe_model(member)) for member in exact_json.loads(text))


def _is_plain(value_type: Any) -> bool:
    origin, of = get_origin(value_type), get_args(value_type)
    if origin is dict and of[0] not in {str, Any}:  # which JSON has no keys of
        return False
    if origin in {dict, list}:
        return all(map(_is_plain, of))
    return value_type in {None, Any, dict, list, str, int, float, bool}


def _typed(typed: TypedValue) -> Column:
    def encode(value: Any) -> str:
        text = _storable(typed.dumps_exactly(value).decode())
        _read_again(text, typed.loads)
        return text

    return Column("jsonb", "text", encode, typed.loads)


def _typed_key(typed: TypedValue) -> Column:
    def encode(key: Any) -> str:
        text = _storable(typed.dumps_exactly(key).decode())
        _must_be_equal(key, text, typed.loads)
        return text

    return Column("jsonb", "text", encode, typed.loads)


def _encode_key(key: Any) -> str:
    text = _storable(orjson.dumps(key).decode())
    if type(key) is not str:
        _must_be_equal(key, text, _decode_key)
        if ("true" in text or "false" in text) and _has_bool(key):
            raise TypeError(
                f"The key {key!r} has a bool, which is equal to 0 or 1 and is another key in "
                "Postgres: give the table its key_type"
            )
    return text


def _has_bool(key: Any) -> bool:
    return any(map(_has_bool, key)) if isinstance(key, tuple) else isinstance(key, bool)


def _decode_key(text: str) -> Any:
    return _hashable(exact_json.loads(text))


_JSON_KEY = Column("jsonb", "text", _encode_key, _decode_key)


def _must_be_equal(key: Any, text: str, decode: Callable[[str], Any]) -> None:
    """Raises TypeError for a key that would be another one when it is loaded: its row would be lost
    to it, and two such keys that are one in Postgres cannot be in one commit."""
    if (again := _read_again(text, decode)) != key:
        raise TypeError(
            f"The key {key!r} would be read again as {again!r}: give the table its key_type, if "
            "that is not what it has"
        )


def _read_again(text: str, decode: Callable[[str], Any]) -> Any:
    """What is written, as it is read. Raises ValueError for what could not be: nobody could take a
    partition that has it."""
    try:
        return decode(text)
    except (ValidationError, DecodeError, TypeError) as error:
        raise ValueError(f"It could not be read again: {reason_of(error)}") from None


def reason_of(error: Exception) -> str:
    """Why something cannot be read, without what it is."""
    return problems_of(error) if isinstance(error, ValidationError) else str(error)
