"""Events, envelope, traces and the life of an order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis.strategies import text
from pydantic import ValidationError

from models.envelope import Envelope, Message, derived_id, first_message
from models.errors import IllegalTransition, InvalidEvent
from models.events import (
    CartUpdated,
    NotificationFailed,
    NotificationKind,
    NotificationRequested,
    OrderCreated,
    UserCreated,
)
from models.fields import MAX_ITEMS, MAX_QUANTITY, MAX_UNIT_PRICE, printable
from models.orders import TRANSITIONS, Item, OrderStatus, total
from models.rows import OrderStateRow, StatusChange
from models.traces import child_of, new_trace

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def user_created() -> UserCreated:
    return UserCreated(user_id="u-1", email="ann@example.org", name="Ann")


def test_an_event_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        user_created().name = "Bob"  # type: ignore[misc]


def test_key_is_the_id_of_the_entity() -> None:
    assert user_created().key == "u-1"


@pytest.mark.parametrize("email", ["ann", "ann@", "@example.org", "a b@example.org", "a@b\n", ""])
def test_what_is_no_address_is_refused(email: str) -> None:
    with pytest.raises(ValidationError, match="email"):
        UserCreated(user_id="u-1", email=email, name="Ann")


@pytest.mark.parametrize("name", ["nul\x00", "two\nlines", "lone \ud800 surrogate", ""])
def test_what_no_store_would_take_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        UserCreated(user_id="u-1", email="ann@example.org", name=name)


@pytest.mark.parametrize("quantity", [0, -1, MAX_QUANTITY + 1, 1.0, True, "2"])
def test_quantity_is_a_whole_number_within_bounds(quantity: Any) -> None:
    with pytest.raises(ValidationError, match="quantity"):
        Item(sku="tea", quantity=quantity, unit_price=1)


def test_the_largest_total_fits_64_bits() -> None:
    item = Item(sku="gold", quantity=MAX_QUANTITY, unit_price=MAX_UNIT_PRICE)
    assert total([item] * MAX_ITEMS) < 2**63


def test_items_may_be_written_as_text() -> None:
    body = {"user_id": "u-1", "items": '[{"sku":"tea","quantity":2,"unit_price":450}]'}
    cart = CartUpdated.model_validate(body)
    assert cart.items == (Item(sku="tea", quantity=2, unit_price=450),)


@pytest.mark.parametrize("items", ["tea", '"tea"', '{"sku": "tea"}', "[1]"])
def test_text_that_holds_no_items_is_refused(items: str) -> None:
    with pytest.raises(ValidationError, match="items"):
        CartUpdated.model_validate({"user_id": "u-1", "items": items})


def test_an_order_has_at_least_one_item() -> None:
    with pytest.raises(ValidationError, match="items"):
        OrderCreated(order_id="o-1", user_id="u-1", items=(), currency="EUR")


def test_the_first_event_correlates_with_itself() -> None:
    envelope = Envelope.first(user_created())
    assert envelope.correlation_id == envelope.event_id
    assert envelope.causation_id is None


def test_what_follows_keeps_correlation_and_trace() -> None:
    cause = first_message(user_created(), correlation_id="c-1", traceparent=TRACE)
    effect = cause.caused(CartUpdated(user_id="u-1", items=()))
    assert effect.envelope.correlation_id == "c-1"
    assert effect.envelope.causation_id == cause.envelope.event_id
    assert effect.envelope.traceparent.split("-")[1] == TRACE.split("-")[1]
    spans = {trace.split("-")[2] for trace in (TRACE, *_traces(cause, effect))}
    assert len(spans) == 3


def _traces(*messages: Message[Any]) -> list[str]:
    return [message.envelope.traceparent for message in messages]


def test_the_same_effect_of_the_same_cause_has_the_same_id() -> None:
    cause = first_message(user_created()).envelope
    cart = CartUpdated(user_id="u-1", items=())
    other = CartUpdated(user_id="u-2", items=())
    assert cause.caused(cart).event_id == cause.caused(cart).event_id
    assert cause.caused(cart).event_id != cause.caused(other).event_id


def test_headers_carry_the_envelope_there_and_back() -> None:
    cause = Envelope.first(user_created())
    for envelope in (cause, cause.caused(user_created())):
        headers = envelope.headers()
        assert all(isinstance(value, str) for value in headers.values())
        assert Envelope.from_headers(headers) == envelope
        as_bytes = {name: value.encode() for name, value in headers.items()}
        assert Envelope.from_headers(as_bytes) == envelope


@pytest.mark.parametrize(
    ("header", "value"),
    [("version", b"two"), ("occurred_at", b"noon"), ("event_id", b""), ("correlation_id", b"\xff")],
)
def test_a_broken_header_is_named(header: str, value: bytes) -> None:
    headers: dict[str, bytes | str] = {**Envelope.first(user_created()).headers(), header: value}
    with pytest.raises(InvalidEvent, match=header):
        Envelope.from_headers(headers)


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        "garbage",
        TRACE.upper(),
        TRACE + "-more",
        TRACE + "\n",
        TRACE.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
    ],
)
def test_an_unreadable_trace_is_begun_anew(traceparent: str | None) -> None:
    trace = child_of(traceparent)
    assert trace.split("-")[1] not in (traceparent or "").lower()
    assert child_of(trace).split("-")[1] == trace.split("-")[1]


def test_a_trace_of_a_later_version_is_continued_in_ours() -> None:
    child = child_of("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-more")
    version, trace, span, flags = child.split("-")
    assert (version, trace, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert span != "b7ad6b7169203331"


def test_an_unsampled_trace_stays_unsampled() -> None:
    assert child_of(new_trace()[:-2] + "00").endswith("-00")


def order(status: OrderStatus) -> OrderStateRow:
    return OrderStateRow(
        order_id="o-1",
        user_id="u-1",
        items=(Item(sku="tea", quantity=1, unit_price=450),),
        currency="EUR",
        status=status,
        history=(StatusChange(status=status, at=NOON),),
    )


@pytest.mark.parametrize("now", OrderStatus)
@pytest.mark.parametrize("then", OrderStatus)
def test_an_order_moves_as_the_drawing_says(now: OrderStatus, then: OrderStatus) -> None:
    before, change = order(now), StatusChange(status=then, at=NOON, reason="why not")
    if then in TRANSITIONS[now]:
        after = before.moved(change)
        assert after.status is then
        assert after.history == (*before.history, change)
        assert before.status is now
    else:
        with pytest.raises(IllegalTransition, match=f"{now} cannot become {then}"):
            before.moved(change)


def test_every_status_has_its_transitions_and_none_leads_back_to_placed() -> None:
    assert set(TRANSITIONS) == set(OrderStatus)
    assert all(OrderStatus.PLACED not in following for following in TRANSITIONS.values())


def test_a_notification_without_data_has_an_empty_one() -> None:
    body = {"notification_id": "n-1", "user_id": "u-1", "kind": "welcome"}
    assert NotificationRequested.model_validate(body).data == {}


@given(text(), text())
def test_a_derived_id_stays_what_it_was(one: str, other: str) -> None:
    namespace = UUID("5d3a7b8e-64d1-5c0e-9f53-0d6d6a1f9b27")
    assert derived_id(one, other) == str(uuid5(namespace, f"{one}\n{other}"))


@pytest.mark.parametrize(
    "text", ["=?utf-8?q?=0D=0ABcc:_v@x.org?=", "a\r\nBcc: v@x.org", "a\u202eb", "a\u2066b"]
)
def test_what_a_mails_header_would_read_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        UserCreated(user_id="u-1", email="ann@example.org", name=text)
    with pytest.raises(ValidationError):
        UserCreated(user_id="u-1", email=f"{text}@example.org", name="Ann")


def test_an_error_is_told_in_one_printable_line() -> None:
    told = printable("a\nb =?utf-8?q?=0D=0A?= \u202ec")
    assert told == "a b = ?utf-8?q?=0D=0A?= c"
    NotificationFailed(
        notification_id="n-1", user_id="u-1", kind=NotificationKind.WELCOME, error=told
    )


def test_a_trace_of_any_length_takes_no_place() -> None:
    headers = first_message(UserCreated(user_id="u", email="a@b.c", name="A")).envelope.headers()
    read = Envelope.from_headers(headers | {"traceparent": "x" * 100_000})
    assert len(read.traceparent) == 55
