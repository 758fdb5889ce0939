"""The agents at work: memory as broker, a real Postgres, and real mail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

import faust
import pytest
from faust import Table
from faust.types import TP

from agents import mail, notifications, orders, topics, users
from agents.routing import send
from agents.topics import Topics
from models.catalogue import EVENTS
from models.envelope import Message, first_message
from models.events import (
    CartUpdated,
    Event,
    NotificationKind,
    NotificationRequested,
    OrderCreated,
    OrderStatusChanged,
    UserCreated,
)
from models.orders import Item, OrderStatus
from models.rows import CartRow, NotificationRow, NotificationStatus, OrderStateRow, ProfileRow
from redfaust.mail import Mailer, MailSink, ReceivedMail, RecordedMailer
from redfaust.postgres.database import Database
from redfaust.processing.dead_letters import DeadLetterHeading, DeadLetters

PARTITIONS = 4
PATIENCE = 10.0
"""Seconds until what should have happened counts as failed."""
TEA = Item(sku="tea", quantity=2, unit_price=450)
ADDRESSES = {"u-1": "ann@example.org"}


@dataclass
class Shop:
    app: faust.App
    topics: Topics
    database: Database
    mails: list[ReceivedMail] = field(default_factory=list)

    def table(self, name: str) -> dict[str, Any]:
        return dict(cast("Table[Any, Any]", self.app.tables[name]).items())

    async def until(self, condition: Callable[[], object]) -> None:
        # A table says nothing when it changes, so it is looked at again and again.
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def order(self, order_id: str) -> OrderStateRow | None:
        return self.table("order_states").get(order_id)

    def has_status(self, order_id: str, status: OrderStatus) -> Callable[[], bool]:
        return lambda: (row := self.order(order_id)) is not None and row.status is status

    def cart(self, user_id: str) -> CartRow | None:
        return self.table("carts").get(user_id)

    def notifications(self) -> list[NotificationRow]:
        return list(self.table("notifications").values())

    async def dead_letters(self, count: int) -> list[DeadLetterHeading]:
        letters = DeadLetters(self.database)
        async with asyncio.timeout(PATIENCE):
            while len(found := await letters.list()) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return list(found)

    async def events(self, topic: str) -> list[Message[Event]]:
        """All events of a topic, partition by partition."""
        broker = self.app.transport.broker  # type: ignore[attr-defined]
        tps = [TP(topic, partition) for partition in range(PARTITIONS)]
        held = await broker.read(dict.fromkeys(tps, 0), limit=1000, wait=0)
        return [
            EVENTS.parse(r.value, dict(r.headers)) for records in held.values() for r in records
        ]


async def address_of(user_id: str) -> str | None:
    return ADDRESSES.get(user_id)


@pytest.fixture
async def shop(database_url: str) -> AsyncIterator[Shop]:
    app = faust.App(
        "shop",
        broker=f"memory://{uuid4().hex}",
        store=f"{database_url}?schema=public",
        topic_partitions=PARTITIONS,
        web_enabled=False,
    )
    shop = Shop(app, topics.declare(app, PARTITIONS, 0), await Database.connect(database_url))

    async def keep(mail: ReceivedMail) -> None:
        shop.mails.append(mail)

    sink = MailSink(keep)
    users.install(app, shop.topics)
    orders.install(app, shop.topics)
    mailer = RecordedMailer(Mailer(await sink.start(), "shop@localhost"), shop.database)
    mail.install(app, shop.topics, mailer, address_of)
    notifications.install(app, shop.topics)
    app.finalize()
    async with app:
        yield shop
    await sink.stop()
    await shop.database.close()


def user(user_id: str = "u-1", email: str = "ann@example.org") -> Message[UserCreated]:
    return first_message(
        UserCreated(user_id=user_id, email=email, name="Ann"), correlation_id="c-user"
    )


def order(order_id: str = "o-1", user_id: str = "u-1") -> Message[OrderCreated]:
    created = OrderCreated(order_id=order_id, user_id=user_id, items=(TEA,), currency="EUR")
    return first_message(created, correlation_id="c-order")


def status(status: OrderStatus, order_id: str = "o-1") -> Message[OrderStatusChanged]:
    return first_message(OrderStatusChanged(order_id=order_id, status=status, reason="because"))


async def test_a_new_user_gets_a_profile_an_empty_cart_and_a_welcome(shop: Shop) -> None:
    message = user()
    await send(shop.topics.users, message)
    await shop.until(lambda: shop.mails and shop.cart("u-1") is not None)
    assert shop.table("profiles")["u-1"] == ProfileRow(
        user_id="u-1",
        email="ann@example.org",
        name="Ann",
        created_at=message.envelope.occurred_at,
    )
    assert shop.cart("u-1") == CartRow(user_id="u-1", updated_at=message.envelope.occurred_at)
    assert [(mail.subject, mail.recipients) for mail in shop.mails] == [
        ("Welcome, Ann", ("ann@example.org",))
    ]


async def test_a_user_seen_again_keeps_the_cart_and_gets_no_second_mail(shop: Shop) -> None:
    message = user()
    await send(shop.topics.users, message)
    await send(shop.topics.users, first_message(CartUpdated(user_id="u-1", items=(TEA,))))
    await send(shop.topics.users, message)
    await send(shop.topics.users, user("u-2", "bob@example.org"))
    await shop.until(lambda: len(shop.mails) == 2 and shop.cart("u-2"))
    cart = shop.cart("u-1")
    assert cart is not None
    assert cart.items == (TEA,)
    assert len({mail.message_id for mail in shop.mails}) == 2


async def test_an_order_is_confirmed_the_cart_emptied_and_the_user_told(shop: Shop) -> None:
    await send(shop.topics.users, first_message(CartUpdated(user_id="u-1", items=(TEA,))))
    await send(shop.topics.orders, order())
    await shop.until(lambda: shop.mails)
    await shop.until(lambda: (cart := shop.cart("u-1")) is not None and cart.items == ())
    row = shop.order("o-1")
    assert row is not None
    assert [change.status for change in row.history] == [OrderStatus.PLACED, OrderStatus.CONFIRMED]
    assert shop.mails[0].subject == "Order o-1 is confirmed"
    assert "Total: 9.00 EUR" in shop.mails[0].text


async def test_one_correlation_id_runs_through_all_that_follows(shop: Shop) -> None:
    first = order()
    await send(shop.topics.orders, first)

    async def all_that_follows() -> list[Message[Event]]:
        return [
            message
            for topic in ("users", "orders", "notifications")
            for message in await shop.events(topic)
            if message != first
        ]

    async with asyncio.timeout(PATIENCE):
        while len(following := await all_that_follows()) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert sorted(message.event.type for message in following) == [
        "CartUpdated",
        "NotificationRequested",
        "NotificationSent",
        "OrderStatusChanged",
    ]
    assert {message.envelope.correlation_id for message in following} == {"c-order"}
    causes = {message.event.type: message.envelope.causation_id for message in following}
    requested = next(m for m in following if isinstance(m.event, NotificationRequested))
    assert causes["NotificationSent"] == requested.envelope.event_id
    assert causes["OrderStatusChanged"] == first.envelope.event_id


async def test_an_order_seen_again_changes_nothing(shop: Shop) -> None:
    await send(shop.topics.orders, order())
    await send(shop.topics.orders, status(OrderStatus.SHIPPED))
    await shop.until(shop.has_status("o-1", OrderStatus.SHIPPED))
    before = shop.order("o-1")
    await send(shop.topics.orders, order())
    await send(shop.topics.orders, status(OrderStatus.SHIPPED))
    await send(shop.topics.orders, status(OrderStatus.CANCELLED))
    # The last one is refused, and it is in the same partition: the two before it are done by then.
    assert [letter.error_type for letter in await shop.dead_letters(1)] == [
        "models.errors.IllegalTransition"
    ]
    assert shop.order("o-1") == before


@pytest.mark.parametrize(
    ("reached", "subject"),
    [
        (OrderStatus.SHIPPED, "Order o-1 is on its way"),
        (OrderStatus.CANCELLED, "Order o-1 is cancelled"),
    ],
)
async def test_the_user_is_told_where_an_order_went(
    shop: Shop, reached: OrderStatus, subject: str
) -> None:
    await send(shop.topics.orders, order())
    await send(shop.topics.orders, status(reached))
    await shop.until(lambda: len(shop.mails) == 2)
    assert {mail.subject for mail in shop.mails} == {"Order o-1 is confirmed", subject}
    row = shop.order("o-1")
    assert row is not None
    assert (row.history[-1].status, row.history[-1].reason) == (reached, "because")


async def test_a_status_of_an_unknown_order_is_set_aside_and_stops_nobody(shop: Shop) -> None:
    await send(shop.topics.orders, status(OrderStatus.SHIPPED))
    await send(shop.topics.orders, order())
    await shop.until(shop.has_status("o-1", OrderStatus.CONFIRMED))
    (letter,) = await shop.dead_letters(1)
    assert letter.error_type == "agents.errors.UnknownOrder"
    assert "publish its OrderCreated, then replay" in letter.error


@pytest.mark.parametrize(
    ("user_id", "recipient", "error_type"),
    [
        ("u-1", "bob@nowhere.invalid", "redfaust.errors.MailRejected"),
        ("u-unknown", None, "agents.errors.UnknownRecipient"),
    ],
)
async def test_a_failing_recipient_is_set_aside_and_stops_nobody(
    shop: Shop, user_id: str, recipient: str | None, error_type: str
) -> None:
    request = NotificationRequested(
        notification_id="n-1",
        user_id=user_id,
        kind=NotificationKind.WELCOME,
        recipient=recipient,
        data={"name": "Bob"},
    )
    healthy = request.model_copy(
        update={"notification_id": "n-2", "user_id": "u-1", "recipient": None}
    )
    await send(shop.topics.notifications, first_message(request))
    await send(shop.topics.notifications, first_message(healthy))
    await shop.until(lambda: len(shop.notifications()) == 2)
    rows = {row.notification_id: row for row in shop.notifications()}
    assert rows["n-1"].status is NotificationStatus.FAILED
    assert error_type.rpartition(".")[2] in (rows["n-1"].error or "")
    assert rows["n-2"].status is NotificationStatus.SENT
    (letter,) = await shop.dead_letters(1)
    assert letter.error_type == error_type
    assert [mail.recipients for mail in shop.mails] == [("ann@example.org",)]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "data of order_confirmed: order_id: Field required"),
        (
            {"order_id": "hush", "items": [], "currency": "EUR", "total": 1},
            "data of order_confirmed: items: Value error, at least one item is needed",
        ),
    ],
)
async def test_a_mail_that_can_never_be_written_is_set_aside_at_once(
    shop: Shop, data: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    request = NotificationRequested(
        notification_id="n-1", user_id="u-1", kind=NotificationKind.ORDER_CONFIRMED, data=data
    )
    await send(shop.topics.notifications, first_message(request))
    (letter,) = await shop.dead_letters(1)
    assert (letter.error_type, letter.attempts) == ("agents.errors.NoticeUnusable", 1)
    assert letter.error == reason
    await shop.until(shop.notifications)
    logged = [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"]
    assert not any("\n" in line or "hush" in line for line in logged)


async def test_whatever_else_fails_in_the_mail_agent_is_set_aside_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("hush")

    monkeypatch.setattr(mail, "render", fail)
    await send(shop.topics.users, user())
    (letter,) = await shop.dead_letters(1)
    assert (letter.error_type, letter.attempts) == ("agents.errors.NoticeUnusable", 1)
    assert letter.error == "welcome: ZeroDivisionError"


async def test_a_failed_notification_is_sent_when_its_request_comes_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = first_message(
        NotificationRequested(
            notification_id="n-1",
            user_id="u-2",
            kind=NotificationKind.WELCOME,
            data={"name": "Bob"},
        )
    )
    await send(shop.topics.notifications, request)
    await shop.until(shop.notifications)
    monkeypatch.setitem(ADDRESSES, "u-2", "bob@example.org")
    await send(shop.topics.notifications, request)
    await shop.until(lambda: shop.notifications()[0].status is NotificationStatus.SENT)
    assert [mail.recipients for mail in shop.mails] == [("bob@example.org",)]
    assert shop.notifications()[0].error is None


async def test_an_event_in_the_wrong_partition_finds_its_own(shop: Shop) -> None:
    for partition in range(PARTITIONS):
        message = order(f"o-{partition}")
        await shop.topics.orders.send(key=None, value=message, partition=partition)
    for partition in range(PARTITIONS):
        await shop.until(shop.has_status(f"o-{partition}", OrderStatus.CONFIRMED))
    user_message = user()
    await shop.topics.users.send(key=None, value=user_message, partition=0)
    await shop.until(lambda: shop.table("profiles"))
    await shop.app.producer.flush()
    sent = [message for message in await shop.events("users") if message == user_message]
    assert len(sent) == 2, "as it was written, and once in its own partition"


async def test_what_others_say_before_the_confirmation_comes_back_is_no_error(shop: Shop) -> None:
    await shop.topics.orders.send(key="o-1", value=order())
    await shop.topics.orders.send(key="o-1", value=status(OrderStatus.SHIPPED))
    await shop.topics.orders.send(key="o-1", value=status(OrderStatus.CANCELLED))
    await shop.dead_letters(1)
    await shop.app.producer.flush()
    assert (await shop.events("orders"))[-1].event == OrderStatusChanged(
        order_id="o-1", status=OrderStatus.CONFIRMED
    )
    await shop.topics.orders.send(key="o-1", value=status(OrderStatus.CANCELLED))
    assert [
        "shipped cannot become cancelled" in letter.error for letter in await shop.dead_letters(2)
    ] == [True, True]


async def test_what_is_no_event_is_set_aside_with_its_bytes(shop: Shop) -> None:
    await shop.app.producer.send_and_wait("orders", b"o-1", b"not json", None, None, {})
    await send(shop.topics.orders, order("o-1"))
    await shop.until(shop.has_status("o-1", OrderStatus.CONFIRMED))
    (letter,) = await shop.dead_letters(1)
    assert letter.value == b"not json"
    assert "not JSON" in letter.error
