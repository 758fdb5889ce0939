"""Events that were written by older releases."""

from __future__ import annotations

import orjson

from models.catalogue import EVENTS
from models.envelope import first_message
from models.events import OrderCreated, OrderCreatedV1
from models.orders import Item

V1 = OrderCreatedV1(order_id="o-1", user_id="u-1", sku="tea", quantity=2, unit_price=450)
V2 = OrderCreated(
    order_id="o-1",
    user_id="u-1",
    items=(Item(sku="tea", quantity=2, unit_price=450),),
    currency="EUR",
)


def test_an_order_of_version_1_arrives_as_version_2() -> None:
    old = first_message(V1)
    message = EVENTS.parse(old.body(), old.envelope.headers())
    assert message.event == V2
    assert message.envelope == old.envelope.model_copy(update={"version": 2})


def test_what_was_upcast_is_read_again_as_it_was_written() -> None:
    old = first_message(V1)
    message = EVENTS.parse(old.body(), old.envelope.headers())
    assert EVENTS.parse(message.body(), message.envelope.headers()) == message


def test_a_bare_entry_of_version_1_arrives_as_version_2() -> None:
    entry = {"type": "OrderCreated", "version": "1", "order_id": "o-1", "user_id": "u-1"}
    entry |= {"sku": "tea", "quantity": "2", "unit_price": "450"}
    assert EVENTS.parse(orjson.dumps(entry), {}).event == V2
