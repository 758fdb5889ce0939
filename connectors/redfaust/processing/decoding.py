"""From messages to events, without Faust's detours where a topic asks for nothing special.

For each message Faust looks up codec, type, model and class of the event. Here they are looked up
once for a topic. What comes out is the same, and so is what is raised: a message that the short way
refuses goes to Faust's schema, which says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import faust
from faust.models.base import Model
from faust.types import AppT, EventT, Message, SchemaT

from redfaust import exact_json
from redfaust.processing.serializers import Registry, is_fausts_own, is_json
from redfaust.processing.typed_values import FAUSTS_OWN, typed_value


class Undecodable(NamedTuple):
    """A message that its schema refused, and why."""

    message: Message
    error: Exception


Decoded: TypeAlias = tuple[list[EventT[Any]], list[Undecodable]]

Decode: TypeAlias = Callable[[Iterable[Message]], Decoded]

_DecodeOne: TypeAlias = Callable[[Message], EventT[Any]]
_Load: TypeAlias = Callable[[bytes], Any]


class _Loader(NamedTuple):
    """How to load the bytes of a type."""

    load: _Load
    is_typed: bool = False
    """Whether nothing is to be loaded as well, as null: the type may admit it or not."""


class _Plain(NamedTuple):
    key: _Loader
    value: _Loader


def decoder(app: AppT, schema: SchemaT[Any, Any]) -> Decode:
    """A function that makes messages events, and returns those that cannot be beside them."""
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
        return partial(_decode_each, by_schema)
    fausts_own = isinstance(new_event, partial) and new_event.func is faust.Event
    return partial(_decode_plainly, app, plain, None if fausts_own else new_event, by_schema)


def _decode_each(decode: _DecodeOne, messages: Iterable[Message]) -> Decoded:
    events: list[EventT[Any]] = []
    refused: list[Undecodable] = []
    for message in messages:
        try:
            events.append(decode(message))
        except Exception as error:  # whatever it is, it comes from this message
            refused.append(Undecodable(message, error))
    return events, refused


def _decode_plainly(
    app: AppT,
    plain: _Plain,
    new_event: Callable[..., EventT[Any]] | None,
    by_schema: _DecodeOne,
    messages: Iterable[Message],
) -> Decoded:
    """``new_event`` is ``None`` if it is the constructor of Faust's own class."""
    events: list[EventT[Any]] = []
    refused: list[Undecodable] = []
    (load_key, key_is_typed), (load_value, value_is_typed) = plain
    may_be_model = load_value is _json
    if may_be_model:
        load_value = exact_json.loads_shallow
    add, event_class, new = events.append, faust.Event, faust.Event.__new__
    for message in messages:
        key: Any = message.key
        value: Any = message.value
        try:
            if key is not None:
                key = load_key(key)
            elif key_is_typed:
                key = load_key(_NULL)
            if value is not None:
                value = load_value(value)
                if may_be_model and type(value) is dict and BLESSED in value:
                    value = Model._maybe_reconstruct(value)
            elif value_is_typed:
                value = load_value(_NULL)
        except Exception:  # whatever it is, Faust's way shows it too
            others, undecodable = _decode_each(by_schema, [message])
            events += others
            refused += undecodable
            continue
        headers = message.headers
        if new_event is not None:
            add(new_event(key, value, headers or None, message))
            continue
        event = new(event_class)  # and what its constructor does: a third of what it costs
        event.app, event.key, event.value, event.message = app, key, value, message
        event.headers = dict(headers) if headers else {}
        event.acked = False
        add(event)
    return events, refused


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


def _loader(kind: Any, codec: Any) -> _Loader | None:
    if not is_json(codec):
        return None
    if kind in FAUSTS_OWN:
        load = (_FROM_JSON if is_fausts_own(codec, "json") else _FROM_BYTES).get(kind)
        return None if load is None else _Loader(load)
    with suppress(TypeError):  # which the long way raises for each message
        if (typed := typed_value(kind)) is not None:
            return _Loader(typed.loads, is_typed=True)
    return None


BLESSED = Model._blessed_key
"""The field in which a value says which of Faust's models it is."""


_NULL = b"null"


def _same(content: bytes) -> bytes:
    return content


def _json(content: bytes) -> Any:
    value = exact_json.loads(content)
    if type(value) is dict and BLESSED in value:
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
    str: exact_json.loads,
    int: lambda content: int(exact_json.loads(content)),
    float: lambda content: float(exact_json.loads(content)),
}
