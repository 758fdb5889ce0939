"""The short way from a message to an event gives what Faust gives, and refuses what it refuses."""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from typing import Any

import faust
import pytest
from faust.types import TP, Message
from pydantic import BaseModel

from redfaust.processing import decoding

TYPES: list[Any] = [None, bytes, str, int, float, Decimal]
CODECS = [None, "raw", "json", "json|binary"]
CONTENTS = [
    None,
    b"",
    b"5",
    b'"5"',
    b"1.5",
    b"1e400",
    b"NaN",
    b"true",
    b"null",
    b"text",
    b"\xff",
    b'{"a": [1, {"b": null}]}',
    b'{"__faust": {"ns": "nobody"}}',
    b'{"__faust": {"ns": "test.Point"}, "x": 1}',
    b'{"__faust": 1}',
]


class Point(faust.Record, namespace="test.Point"):
    x: int


class Place(BaseModel):
    a: list[Any]


TYPES += [Place, Place | None, list[Place], dict, object]


def new_app(**settings: Any) -> faust.App:
    return faust.App("test", broker="memory://decoding", store="memory://", **settings)


def message(key: bytes | None, value: bytes | None) -> Message:
    return Message("t", 0, 7, 1.0, 0, [("name", b"value")], key, value, None, tp=TP("t", 0))


def outcome(decode: decoding.Decode, subject: Message) -> tuple[Any, ...]:
    events, refused = decode([subject])
    if refused:
        [(message, error)] = refused
        assert message is subject
        return type(error), str(error)
    [event] = events
    assert event.message is subject
    assert event.app is not None
    assert not event.acked
    return repr(event.key), repr(event.value), event.headers


def one(decode: decoding.Decode, subject: Message) -> Any:
    [event], _ = decode([subject])
    return event


@pytest.mark.parametrize(("kind", "codec"), list(product(TYPES, CODECS)))
@pytest.mark.parametrize("of_app", [True, False], ids=["app's codec", "topic's codec"])
def test_the_short_way_leads_where_fausts_does(
    kind: Any, codec: str | None, of_app: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(key_serializer=codec, value_serializer=codec) if of_app else new_app()
    own = None if of_app else codec
    schema: faust.Schema[Any, Any] = faust.Schema(
        key_type=kind, value_type=kind, key_serializer=own, value_serializer=own
    )
    short = decoding.decoder(app, schema)
    monkeypatch.setattr(decoding, "_plain", lambda *_: None)
    long = decoding.decoder(app, schema)
    for content in CONTENTS:
        for subject in (message(content, None), message(None, content)):
            assert outcome(short, subject) == outcome(long, subject)


def test_a_models_topic_gives_models() -> None:
    decode = decoding.decoder(new_app(), faust.Schema(key_type=str, value_type=Point))
    assert one(decode, message(b"key", b'{"x": 3}')).value == Point(x=3)


def test_a_schema_of_ones_own_is_asked() -> None:
    class Shouting(faust.Schema[Any, Any]):
        def loads_value(self, app: Any, message: Message, **_: Any) -> Any:  # noqa: ARG002
            return (message.value or b"").decode().upper()

    assert one(decoding.decoder(new_app(), Shouting()), message(None, b"aha")).value == "AHA"


def test_an_event_class_of_ones_own_is_used() -> None:
    class OwnEvent(faust.Event):
        pass

    decode = decoding.decoder(new_app(Event=OwnEvent), faust.Schema())
    assert type(one(decode, message(None, b"1"))) is OwnEvent


def test_an_app_that_creates_its_events_is_asked() -> None:
    class App(faust.App):
        def create_event(self, key: Any, value: Any, headers: Any, message: Message) -> Any:
            return super().create_event(f"own {key}", value, headers, message)

    app = App("test", broker="memory://decoding", store="memory://")
    assert one(decoding.decoder(app, faust.Schema()), message(None, b"1")).key == "own None"
