"""JSON whose numbers are what they say, or are refused.

orjson reads an integer of more than 64 bits as a float, and writes what is no number as ``null``.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from math import isfinite
from typing import Any

import orjson
from faust.models.base import Model
from pydantic import BaseModel
from pydantic_core import from_json

_DIGITS = bytes(ord("0") if byte in b"0123456789" else 0 for byte in range(256))
_LARGE = b"0" * 20
"""Integers of more than 64 bits have at least so many digits."""

loads_shallow = partial(from_json, allow_inf_nan=False)
"""As :func:`loads`, but for what is nested deeper than 200 levels."""


def loads(content: bytes | str) -> Any:
    """Read JSON. Raises ValueError for what is none, with NaN and infinity."""
    try:
        return loads_shallow(content)
    except ValueError:
        value = orjson.loads(content)
    digits = (content.encode() if isinstance(content, str) else content).translate(_DIGITS)
    if _LARGE in digits:
        raise ValueError("numbers of so many digits are not read from what is nested so deep")
    return value


def check(value: Any, encoded: bytes) -> None:
    """Raises ValueError for a value with NaN or infinity, which ``encoded`` has as ``null``."""
    if b"null" in encoded and not _is_finite(value):
        raise ValueError("JSON has neither NaN nor infinity: use None, or leave the field out")


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    return all(map(_is_finite, _parts(value)))


def _parts(value: Any) -> Iterable[Any]:
    """What a value consists of, if it is no atom."""
    match value:
        case Mapping():
            return [*value.keys(), *value.values()]
        case list() | tuple() | set() | frozenset() | deque():
            return value
        case BaseModel() if value.model_config.get("ser_json_inf_nan", "null") == "null":
            return [*value.__dict__.values(), *(value.model_extra or {}).values()]
        case Model():
            return [value.to_representation()]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return [getattr(value, field.name) for field in dataclasses.fields(value)]
        case _:
            return ()
