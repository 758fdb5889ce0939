"""From messages to events, without Faust's detours where a topic asks for nothing special.

For each message Faust looks up codec, type, model and class of the event. Here they are looked up
once for a topic. What comes out is the same, and so is what is raised: a message that the short way
refuses goes to Faust's schema, which says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import faust
import orjson
from faust.models.base import Model
from faust.serializers import codecs
from faust.serializers.registry import Registry
from faust.types import AppT, EventT, Message, SchemaT

Decode: TypeAlias = Callable[[Message], EventT[Any]]
_Load: TypeAlias = Callable[[bytes], Any]


class _Plain(NamedTuple):
    """How to load what is not null."""

    key: _Load
    value: _Load


def decoder(app: AppT, schema: SchemaT[Any, Any]) -> Decode:
    """A function that makes a message an event. It may raise anything, about the message."""
    own_app: Any = type(app)
    new_event: Callable[..., EventT[Any]] = app.create_event
    if own_app.create_event is faust.App.create_event:
        event_class: Any = app.conf.Event
        new_event = partial(event_class, app)

    def by_schema(message: Message) -> EventT[Any]:
        key = schema.loads_key(app, message)
        if message.value is None and schema.allow_empty:
            value = None
        else:
            value = schema.loads_value(app, message)
        return new_event(key, value, message.headers or None, message)

    plain = _plain(app, schema)
    if plain is None:
        return by_schema
    load_key, load_value = plain

    def plainly(message: Message) -> EventT[Any]:
        key: Any = message.key
        value: Any = message.value
        try:
            if key is not None:
                key = load_key(key)
            if value is not None:
                value = load_value(value)
        except Exception:  # whatever it is, Faust's way shows it too
            return by_schema(message)
        return new_event(key, value, message.headers or None, message)

    return plainly


def _plain(app: AppT, schema: SchemaT[Any, Any]) -> _Plain | None:
    own_schema: Any = type(schema)
    registry = app.serializers
    if (
        own_schema.loads_key is not faust.Schema.loads_key
        or own_schema.loads_value is not faust.Schema.loads_value
        or type(registry) is not Registry
    ):
        return None
    key = _loader(schema.key_type, schema.key_serializer or registry.key_serializer)
    value = _loader(schema.value_type, schema.value_serializer or registry.value_serializer)
    return None if key is None or value is None else _Plain(key, value)


def _loader(kind: Any, codec: Any) -> _Load | None:
    if codec is None or is_fausts_own(codec, "raw"):
        return _FROM_BYTES.get(kind)
    if is_fausts_own(codec, "json"):
        return _FROM_JSON.get(kind)
    return None


def is_fausts_own(codec: Any, name: str) -> bool:
    """Whether a codec is Faust's of this name, and not one registered in its place."""
    return bool(codec == name and type(codecs.codecs[name]) is getattr(codecs, name))


def _same(content: bytes) -> bytes:
    return content


def _json(content: bytes) -> Any:
    value = orjson.loads(content)
    if type(value) is dict and "__faust" in value:  # it says which of Faust's models it is
        return Model._maybe_reconstruct(value)
    return value


_FROM_BYTES: Mapping[Any, _Load] = {
    None: _same,
    bytes: _same,
    str: bytes.decode,
    int: lambda content: int(content.decode()),
    float: lambda content: float(content.decode()),
    Decimal: lambda content: Decimal(content.decode()),
}

_FROM_JSON: Mapping[Any, _Load] = {
    None: _json,
    str: orjson.loads,
    int: lambda content: int(orjson.loads(content)),
    float: lambda content: float(orjson.loads(content)),
}
