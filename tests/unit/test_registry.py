"""From the bytes of an entry to an event."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from models.catalogue import EVENTS
from models.envelope import first_message
from models.errors import InvalidEvent, UnknownEventType, UnknownEventVersion
from models.events import OrderCreated, OrderCreatedV1, OrderStatusChanged, UserCreated
from models.orders import Item
from models.registry import Origin, Registry

APPENDED_AT = datetime(2030, 1, 1, tzinfo=UTC)
ORIGIN = Origin("orders", 0, 7, APPENDED_AT.timestamp())
BARE_ORDER = {
    "type": "OrderCreated",
    "order_id": "o-1",
    "user_id": "u-1",
    "items": '[{"sku":"tea","quantity":2,"unit_price":450}]',
    "currency": "EUR",
}


def test_an_event_comes_back_as_it_was_sent() -> None:
    sent = first_message(UserCreated(user_id="u-1", email="ann@example.org", name="Ann"))
    assert EVENTS.parse(sent.body(), sent.envelope.headers()) == sent


def test_a_bare_entry_is_an_event_of_the_newest_version() -> None:
    message = EVENTS.parse(orjson.dumps(BARE_ORDER), {}, origin=ORIGIN)
    assert message.event == OrderCreated(
        order_id="o-1",
        user_id="u-1",
        items=(Item(sku="tea", quantity=2, unit_price=450),),
        currency="EUR",
    )
    assert message.envelope.version == 2
    assert message.envelope.occurred_at == APPENDED_AT
    assert message.envelope.correlation_id == message.envelope.event_id


def test_a_bare_entry_read_again_is_the_same_event() -> None:
    first, again, other = (
        EVENTS.parse(orjson.dumps(BARE_ORDER), {}, origin=origin).envelope.event_id
        for origin in (ORIGIN, ORIGIN, ORIGIN._replace(offset=8))
    )
    assert first == again
    assert first != other


def test_a_bare_entry_may_say_any_part_of_its_envelope() -> None:
    said = {"event_id": "e-1", "correlation_id": "c-1", "version": "2", "causation_id": None}
    envelope = EVENTS.parse(orjson.dumps(BARE_ORDER | said), {}, origin=ORIGIN).envelope
    assert (envelope.event_id, envelope.correlation_id, envelope.version) == ("e-1", "c-1", 2)
    assert envelope.causation_id is None


def test_a_header_wins_over_the_body() -> None:
    headers = {"type": b"OrderStatusChanged", "correlation_id": b"c-2"}
    body = {"type": "x", "correlation_id": "c-1", "order_id": "o-1", "status": "shipped"}
    message = EVENTS.parse(orjson.dumps(body), headers)
    assert isinstance(message.event, OrderStatusChanged)
    assert message.envelope.correlation_id == "c-2"


def test_a_field_that_a_newer_producer_added_is_ignored() -> None:
    body = {"order_id": "o-1", "status": "shipped", "carrier": "pigeon"}
    event = EVENTS.parse(orjson.dumps(body), {"type": "OrderStatusChanged"}).event
    assert event == OrderStatusChanged.model_validate({"order_id": "o-1", "status": "shipped"})


def test_an_unknown_type_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(UnknownEventType, match=r"OrderCreatd.*known: .*OrderCreated, ") as refused:
        EVENTS.parse(b"{}", {"type": "OrderCreatd"})
    assert refused.value.__cause__ is None


def test_an_unknown_version_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(UnknownEventVersion, match="version 3 of OrderCreated; known: v1, v2"):
        EVENTS.parse(b"{}", {"type": "OrderCreated", "version": "3"})


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (b"not json", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "JSON object is needed, not list"),
        (b"{}", "type: missing"),
    ],
)
def test_what_is_no_object_is_refused(value: bytes, complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        EVENTS.parse(value, {})


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"currency": "euro"}, r"OrderCreated v2: currency: "),
        ({"items": '[{"sku":"tea","quantity":0,"unit_price":1}]'}, r"v2: items\.0\.quantity: "),
        ({"items": [{"sku": "tea", "quantity": 1}]}, r"v2: items\.0\.unit_price: "),
        ({"order_id": "a\u0000b"}, r"v2: order_id: "),
        ({"version": 1}, r"OrderCreated v1: sku: "),
        ({"version": "first"}, r"envelope: version: "),
    ],
)
def test_the_field_that_does_not_fit_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidEvent, match=complaint):
        EVENTS.parse(orjson.dumps(BARE_ORDER | change), {})


def test_a_registry_without_its_upcaster_does_not_start() -> None:
    with pytest.raises(ValueError, match="no upcaster from OrderCreated v1 to v2"):
        Registry([OrderCreatedV1, OrderCreated], upcasters={})


def test_an_event_is_registered_once() -> None:
    with pytest.raises(ValueError, match="UserCreated v1 is registered twice"):
        Registry([UserCreated, UserCreated], upcasters={})
