"""The shop's agents without its servers, as one tests an application that is built on redfaust."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import faust
import pytest

import agents.orders
import agents.topics
import agents.users
from connectors.testing import in_memory
from models.envelope import Message, first_message
from models.events import CartUpdated, Event, OrderCreated, OrderStatusChanged, UserCreated
from models.orders import Item, OrderStatus

TEA = Item(sku="tea", quantity=2, unit_price=450)


class Shop(NamedTuple):
    """An application and its topics."""

    app: faust.App
    topics: agents.topics.Topics

    def table(self, name: str) -> Any:
        return cast(Any, self.app.tables[name])


@pytest.fixture(scope="module")
def shop() -> Shop:
    app = faust.App("shop", broker="redis://nowhere.invalid", store="postgresql://nowhere.invalid")
    topics = agents.topics.declare(app, 4, retention=0)
    agents.users.install(app, topics)
    agents.orders.install(app, topics)
    return Shop(app, topics)


def told(events: Any) -> list[Event]:
    return [cast("Message[Event]", event.value).event for event in events]


async def test_an_order_is_confirmed_and_empties_the_cart(shop: Shop) -> None:
    events: list[tuple[str, Event]] = [
        ("users", UserCreated(user_id="u-1", email="ann@example.org", name="Ann")),
        ("users", CartUpdated(user_id="u-1", items=(TEA,))),
        ("orders", OrderCreated(order_id="o-1", user_id="u-1", items=(TEA,), currency="EUR")),
    ]
    async with in_memory(shop.app) as run:
        for topic, event in events:
            to = getattr(shop.topics, topic)
            await run.send(to, key=event.key, value=first_message(event))
        await run.settled()
        assert shop.table("profiles")["u-1"].email == "ann@example.org"
        assert shop.table("order_states")["o-1"].status is OrderStatus.CONFIRMED
        assert shop.table("carts")["u-1"].items == ()
        kinds = [cast(Any, event).kind for event in told(run.sent(shop.topics.notifications))]
        assert [kind.value for kind in kinds] == ["welcome", "order_confirmed"]
        assert not run.dead_letters


async def test_an_order_that_nobody_placed_is_a_dead_letter(shop: Shop) -> None:
    shipped = OrderStatusChanged(order_id="o-1", status=OrderStatus.SHIPPED)
    placed = OrderCreated(order_id="o-1", user_id="u-1", items=(TEA,), currency="EUR")
    async with in_memory(shop.app) as run:
        await run.send(shop.topics.orders, key="o-1", value=first_message(shipped))
        await run.settled()
        assert run.waiting_for_retry == 1
        await run.advance(minutes=1)
        [letter] = run.dead_letters
        assert (letter.agent, letter.error_type) == ("orders", "agents.errors.UnknownOrder")
        await run.send(shop.topics.orders, key="o-1", value=first_message(placed))
        await run.replay(letter)
        await run.settled()
        assert shop.table("order_states")["o-1"].status is OrderStatus.SHIPPED
