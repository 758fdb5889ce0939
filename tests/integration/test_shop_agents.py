"""The shop's agents without its servers, as one tests an application that is built on redfaust."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import faust
import pytest

import agents.orders
import agents.topics
import agents.users
from models.catalogue import EVENTS
from models.envelope import Message, first_message
from models.events import (
    CartUpdated,
    Event,
    OrderCreated,
    OrderCreatedV1,
    OrderStatusChanged,
    UserCreated,
)
from models.orders import Item, OrderStatus
from redfaust.testing import in_memory

TEA = Item(sku="tea", quantity=2, unit_price=450)
MILK = Item(sku="milk", quantity=1, unit_price=120)
PARTITIONS = 4


class Shop(NamedTuple):
    """An application and its topics."""

    app: faust.App
    topics: agents.topics.Topics

    def table(self, name: str) -> Any:
        return cast(Any, self.app.tables[name])


@pytest.fixture(scope="module")
def shop() -> Shop:
    app = faust.App("shop", broker="redis://nowhere.invalid", store="postgresql://nowhere.invalid")
    topics = agents.topics.declare(app, PARTITIONS, retention=0)
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


ORDERS: Final[dict[str, Event]] = {
    "version 1": OrderCreatedV1(
        order_id="o-1", user_id="u-1", sku="tea", quantity=2, unit_price=450
    ),
    "version 2": OrderCreated(order_id="o-1", user_id="u-1", items=(TEA,), currency="EUR"),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("key", [None, "somebody", "o-1"])
async def test_an_order_is_confirmed_wherever_a_foreign_producer_puts_it(
    shop: Shop, order: Event, key: str | None
) -> None:
    entry = {"type": order.type, "version": order.version, **order.model_dump(mode="json")}
    for partition in range(PARTITIONS):
        async with in_memory(shop.app) as run:
            await run.send("orders", key=key, value=entry, partition=partition)
            await run.settled()
            assert not run.dead_letters
            assert shop.table("order_states")["o-1"].status is OrderStatus.CONFIRMED


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
async def test_an_event_that_is_sent_home_can_be_read_there(shop: Shop, order: Event) -> None:
    async with in_memory(shop.app) as run:
        for partition in range(PARTITIONS):
            value = first_message(order)
            await run.send(shop.topics.orders, key="somebody", value=value, partition=partition)
        await run.settled()
        assert not run.dead_letters
        assert shop.table("order_states")["o-1"].status is OrderStatus.CONFIRMED


@pytest.mark.parametrize("counted", [True, False], ids=["by number", "by time"])
async def test_what_was_put_into_the_cart_after_an_order_stays(shop: Shop, counted: bool) -> None:
    def number(of: int) -> int | None:
        return of if counted else None

    async def put(item: Item, of: int) -> None:
        cart = CartUpdated(user_id="u-1", items=(item,), cart_number=number(of))
        await run.send(shop.topics.users, key="u-1", value=first_message(cart))

    async with in_memory(shop.app) as run:
        await put(TEA, 1)
        await run.advance(seconds=1)
        order = OrderCreated(
            order_id="o-1", user_id="u-1", items=(TEA,), currency="EUR", cart_number=number(1)
        )
        placed = first_message(order)  # and the workers are stopped
        await run.advance(seconds=1)
        await put(MILK, 2)
        await run.send(shop.topics.orders, key="o-1", value=placed)
        await run.settled()
        assert shop.table("order_states")["o-1"].status is OrderStatus.CONFIRMED
        assert shop.table("carts")["u-1"].items == (MILK,)
        again = OrderCreated(
            order_id="o-2", user_id="u-1", items=(MILK,), currency="EUR", cart_number=number(2)
        )
        await run.advance(seconds=1)
        await run.send(shop.topics.orders, key="o-2", value=first_message(again))
        await run.settled()
        assert shop.table("carts")["u-1"].items == ()


async def test_a_cart_that_an_older_release_emptied_is_empty(shop: Shop) -> None:
    async with in_memory(shop.app) as run:
        for items in ((TEA,), ()):
            cart = CartUpdated(user_id="u-1", items=items)
            await run.send(shop.topics.users, key="u-1", value=first_message(cart))
        await run.settled()
        assert shop.table("carts")["u-1"].items == ()


NEWER: dict[str, Any] = {"type": "OrderCreated", "version": 3, "order_id": "o-1", "user_id": "u-1"}


async def test_an_event_of_a_newer_release_waits_an_hour_for_a_worker_that_knows_it(
    shop: Shop,
) -> None:
    async with in_memory(shop.app) as run:
        other = OrderCreated(order_id="o-2", user_id="u-1", items=(TEA,), currency="EUR")
        await run.send("orders", key="o-1", value=NEWER)
        await run.send(shop.topics.orders, key="o-2", value=first_message(other))
        await run.settled()
        assert shop.table("order_states")["o-2"].status is OrderStatus.CONFIRMED
        for _ in range(5):
            await run.advance(minutes=8)
            assert (run.waiting_for_retry, len(run.dead_letters)) == (1, 0)
        await run.advance(hours=2)
        [letter] = run.dead_letters
        assert (letter.agent, letter.error_type) == ("orders", "models.errors.NewerEventVersion")
        assert letter.error == "unknown version 3 of OrderCreated; known: v1, v2"


async def test_an_event_of_a_newer_release_is_processed_by_a_worker_that_knows_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OrderCreatedV3(OrderCreated):
        version = 3

    newer = NEWER | {"items": [TEA.model_dump()], "currency": "EUR"}
    async with in_memory(shop.app) as run:
        await run.send("orders", key="o-1", value=newer)
        await run.advance(minutes=5)
        assert "o-1" not in shop.table("order_states")
        versions = {**EVENTS._versions["OrderCreated"], 3: OrderCreatedV3}
        monkeypatch.setitem(EVENTS._versions, "OrderCreated", versions)
        await run.advance(minutes=15)
        assert shop.table("order_states")["o-1"].status is OrderStatus.CONFIRMED
        assert not run.dead_letters


@pytest.mark.parametrize("version", [0, -1, "first"])
async def test_a_version_that_can_never_be_is_a_dead_letter_at_once(
    shop: Shop, version: object
) -> None:
    async with in_memory(shop.app) as run:
        await run.send("orders", key="o-1", value=NEWER | {"version": version})
        await run.settled()
        assert len(run.dead_letters) == 1
