"""From keys and values to bytes, without Faust's detours where a topic asks for nothing special.

The way back of :mod:`redfaust.processing.decoding`: what is not as plain as it has to be here
goes to Faust's schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import faust
from faust.types import AppT, SchemaT

from redfaust.processing.serializers import Registry, is_fausts_own, is_json
from redfaust.processing.typed_values import dumps_json, typed_value

PLAIN = frozenset({dict, list, str, int, float, bool})
"""Types that are written as JSON by themselves."""


class Encoder(NamedTuple):
    """How to write the keys and values of a topic that are plain. ``None``: ask its schema."""

    text_keys: bool = False
    """Whether a key that is text is its bytes."""
    json_keys: bool = False
    json_values: bool = False
    typed_values: Callable[[Any], bytes] | None = None
    """Writes all values but bytes, where they are of one of pydantic's types."""

    def key(self, key: Any) -> bytes | None:
        """The bytes of a key."""
        if self.text_keys and type(key) is str:
            encoded: bytes = key.encode()
            return encoded
        return dumps_json(key) if self.json_keys and type(key) in PLAIN else None

    def value(self, value: Any) -> bytes | None:
        """The bytes of a value."""
        if self.typed_values is not None:
            return None if value is None or type(value) is bytes else self.typed_values(value)
        return dumps_json(value) if self.json_values and type(value) in PLAIN else None


def encoder(app: AppT, schema: SchemaT[Any, Any]) -> Encoder:
    """What a topic of this schema needs no schema for."""
    own_schema: Any = type(schema)
    registry = app.serializers
    if type(registry) is not Registry:
        return Encoder()
    key_codec = schema.key_serializer or registry.key_serializer
    value_codec = schema.value_serializer or registry.value_serializer
    plain_values = (
        is_json(value_codec)
        and own_schema.dumps_value is faust.Schema.dumps_value
        and own_schema.on_dumps_value_prepare_headers is faust.Schema.on_dumps_value_prepare_headers
    )
    plain_keys = (
        typed_value(schema.key_type) is None
        and own_schema.dumps_key is faust.Schema.dumps_key
        and own_schema.on_dumps_key_prepare_headers is faust.Schema.on_dumps_key_prepare_headers
    )
    typed = typed_value(schema.value_type)
    return Encoder(
        text_keys=plain_keys and (key_codec is None or is_fausts_own(key_codec, "raw")),
        json_keys=plain_keys and is_fausts_own(key_codec, "json"),
        json_values=plain_values and typed is None and is_fausts_own(value_codec, "json"),
        typed_values=typed.dumps if plain_values and typed is not None else None,
    )
