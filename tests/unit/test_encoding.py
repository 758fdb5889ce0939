"""The short way from an event to its bytes leads where Faust's does, and fails where it fails."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import product
from typing import Any, cast

import faust
import pytest
from pydantic import BaseModel

from redfaust.processing.producer import as_headers
from redfaust.processing.topic import Topic

TYPES: list[Any] = [None, str, bytes, int]
CODECS = [None, "raw", "json", "json|binary"]
CONTENTS = [
    None,
    "",
    "text",
    "\ud800",
    b"bytes",
    5,
    2**64,
    True,
    1.5,
    [1, {"a": None}],
    {"a": Decimal("1.5")},
    {"a": object()},
    {1, 2},
    Decimal(3),
]


class Point(faust.Record):
    x: int


class Place(BaseModel):
    x: int


TYPES += [Place, Place | None, list[int]]


class Loud(faust.Schema[Any, Any]):
    def on_dumps_value_prepare_headers(self, value: Any, headers: Any) -> Any:  # noqa: ARG002
        return {**dict(headers or {}), "loud": b"yes"}


def new_topic(**settings: Any) -> Topic:
    app = faust.App("test", broker="memory://encoding", store="memory://")
    return cast(Topic, app.topic("t", **settings))


def outcome(encode: Callable[[], Any]) -> Any:
    try:
        return encode()
    except Exception as error:
        return type(error), str(error)


def both(topic: Topic, key: Any, value: Any, headers: Any = None) -> tuple[Any, Any]:
    """By the short way, and by Faust's."""

    def fausts() -> Any:
        message = topic.as_future_message(key=key, value=value, headers=headers).message
        return message.key, message.value, as_headers(message.headers)

    return outcome(lambda: topic._encode(key, value, headers)), outcome(fausts)


@pytest.mark.parametrize(("kind", "codec"), list(product(TYPES, CODECS)))
async def test_the_short_way_leads_where_fausts_does(kind: Any, codec: str | None) -> None:
    topic = new_topic(key_type=kind, value_type=kind, key_serializer=codec, value_serializer=codec)
    for content in [*CONTENTS, Point(x=1), Place(x=1), {"a": Place(x=1)}]:
        short, fausts = both(topic, content, None)
        assert short == fausts
        short, fausts = both(topic, None, content)
        assert short == fausts


async def test_headers_go_with_it() -> None:
    for headers in (None, {}, {"a": b"1", "b": "2"}, [("a", b"1"), ("a", b"2")], (("a", b"1"),)):
        short, fausts = both(new_topic(key_type=str), "key", {"x": 1}, headers)
        assert short == fausts


async def test_a_schema_of_ones_own_is_asked() -> None:
    short, fausts = both(new_topic(schema=Loud()), "key", {"x": 1}, {"a": b"1"})
    assert short == fausts == (b"key", b'{"x":1}', (("a", b"1"), ("loud", b"yes")))
