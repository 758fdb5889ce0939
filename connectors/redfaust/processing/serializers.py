"""Faust's door for how keys and values are read and written: the setting ``Serializers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faust.exceptions import DecodeError, KeyDecodeError, ValueDecodeError
from faust.models.base import Model
from faust.serializers import codecs
from faust.serializers.registry import Registry as FaustRegistry
from pydantic import BaseModel, ValidationError

from redfaust import exact_json
from redfaust.processing.typed_values import TypedValue, dumps_json, problems_of, typed_value


def is_fausts_own(codec: Any, name: str) -> bool:
    """Whether a codec is Faust's of this name, and not one registered in its place."""
    return bool(codec == name and type(codecs.codecs[name]) is getattr(codecs, name))


def is_json(codec: Any) -> bool:
    """Whether values of pydantic's types are written as JSON: by that codec, or by none."""
    return codec is None or is_fausts_own(codec, "raw") or is_fausts_own(codec, "json")


class Registry(FaustRegistry):
    """Faust's, which also knows the types that pydantic knows.

    They are JSON, also where the codec is ``raw``, the default for keys. Another codec is given
    what JSON could hold.
    """

    def loads_key(self, typ: Any, key: bytes | None, *, serializer: Any = None) -> Any:
        typed = _typed(typ, KeyDecodeError)
        if typed is None:
            return super().loads_key(typ, key, serializer=serializer)
        return self._read(typed, key, serializer or self.key_serializer, KeyDecodeError)

    def loads_value(self, typ: Any, value: bytes | None, *, serializer: Any = None) -> Any:
        typed = _typed(typ, ValueDecodeError)
        if typed is None:
            return super().loads_value(typ, value, serializer=serializer)
        return self._read(typed, value, serializer or self.value_serializer, ValueDecodeError)

    def dumps_key(
        self, typ: Any, key: Any, *, serializer: Any = None, skip: Any = (bytes,)
    ) -> bytes | None:
        codec = serializer or self.key_serializer
        if (write := _writer(typ, key, codec, skip)) is not None:
            return write()
        return super().dumps_key(typ, key, serializer=serializer, skip=skip)

    def dumps_value(
        self, typ: Any, value: Any, *, serializer: Any = None, skip: Any = (bytes,)
    ) -> bytes | None:
        codec = serializer or self.value_serializer
        if (write := _writer(typ, value, codec, skip)) is not None:
            return write()
        if not isinstance(value, skip) and not is_fausts_own(codec, "raw"):
            exact_json.check(value, b"null")  # JSON comes first in a chain of codecs
        return super().dumps_value(typ, value, serializer=serializer, skip=skip)

    def _loads(self, serializer: Any, data: bytes) -> Any:
        if is_fausts_own(serializer, "json"):
            return exact_json.loads(data)
        return super()._loads(serializer, data)

    def _read(
        self, typed: TypedValue, content: bytes | None, codec: Any, error_class: type[DecodeError]
    ) -> Any:
        try:
            if content is None:
                return typed.from_data(None)
            if is_json(codec):
                return typed.loads(content)
            return typed.from_data(self._loads(codec, content))
        except ValidationError as error:
            # Not from the error: its text, which would be kept with the traceback, has the values.
            raise error_class(problems_of(error)) from None
        except Exception as error:
            raise error_class(str(error)) from error


def _typed(kind: Any, error_class: type[DecodeError]) -> TypedValue | None:
    try:
        return typed_value(kind)
    except TypeError as error:
        raise error_class(str(error)) from error


def _writer(kind: Any, value: Any, codec: Any, skip: Any) -> Callable[[], bytes] | None:
    """How to write what Faust alone could not, or ``None``."""
    if isinstance(value, skip) or (value is None and is_fausts_own(codec, "raw")):
        return None
    typed = typed_value(kind)
    if typed is None and isinstance(value, BaseModel):
        typed = typed_value(type(value))
    if typed is not None:
        if is_json(codec):
            return lambda: typed.dumps(value)
        return lambda: codecs.dumps(codec, typed.to_data(value))
    if isinstance(value, Model) and is_fausts_own(value._options.serializer or codec, "json"):
        return lambda: dumps_json(value.to_representation())
    if is_fausts_own(codec, "json"):
        return lambda: dumps_json(value)
    return None
