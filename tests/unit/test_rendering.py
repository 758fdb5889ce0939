"""How numbers, times and notifications read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agents.errors import NoticeUnusable
from agents.rendering import render
from app.status import Status
from app.status.models import OutboxPart, Partition, Topic, Worker
from app.status.problems import Kind, Problem, Severity
from app.status.text import render as status_text
from app.web.rendering import duration, page, ranges
from models.events import NotificationKind
from models.money import format_money

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
ORDER: dict[str, Any] = {
    "order_id": "o-1",
    "items": [{"sku": "<tea>", "quantity": 2, "unit_price": 450}],
    "currency": "EUR",
    "total": 900,
    "reason": "sold out",
    "name": "Ann & Bob",
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (12, "12 s"),
        (200, "3 min"),
        (7500, "2 h 5 min"),
        (400_000, "4 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([3], "3"), ([2, 0, 1], "0–2"), ([0, 1, 5, 7, 8], "0–1, 5, 7–8")],
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (123450, "EUR", "1,234.50 EUR"),
        (5, "USD", "0.05 USD"),
        (1234, "JPY", "1,234 JPY"),
        (1234, "KWD", "1.234 KWD"),
    ],
)
def test_money(amount: int, currency: str, text: str) -> None:
    assert format_money(amount, currency) == text


@pytest.mark.parametrize("kind", NotificationKind)
def test_every_kind_of_notification_has_its_templates(kind: NotificationKind) -> None:
    subject, text, html = render(kind, ORDER)
    assert subject
    assert "\n" not in subject
    assert text.endswith("The shop\n")
    assert html.startswith("<!doctype html>")


def test_only_html_is_escaped() -> None:
    _, text, html = render(NotificationKind.ORDER_CONFIRMED, ORDER)
    assert "2 x <tea> at 4.50 EUR" in text
    assert "&lt;tea&gt;" in html
    assert render(NotificationKind.WELCOME, ORDER).subject == "Welcome, Ann & Bob"


def test_a_notification_that_lacks_something_is_not_sent_half_empty() -> None:
    with pytest.raises(NoticeUnusable, match="order_id"):
        render(NotificationKind.ORDER_SHIPPED, {})


def test_the_status_as_text() -> None:
    partition = Partition(
        partition=0, length=1000, lag=7, pending=0, position="993", owner="w-\x1b[31m1"
    )
    status = Status(
        app="shop",
        at=NOON,
        workers=(Worker(name="w-1", pid=7, host="here", started_at=NOON),),
        topics=(Topic(name="orders", partitions=(partition,)),),
        outbox=OutboxPart(depth=3, oldest_age_seconds=1.5, scheduled=0),
    )
    text = status_text(status)
    assert "orders          0    1000    7        0  w-\\x1b[31m1" in text
    assert "1.5 s" in text
    assert "PROBLEM" not in text
    assert "Mailbox" not in text


def test_problems_come_first() -> None:
    problem = Problem(
        kind=Kind.NO_WORKER,
        severity=Severity.STOPPED,
        text="No worker is running\n\x1b[2J\u202e",
        first_step="start one",
        since=NOON,
    )
    status = Status(app="shop", at=NOON, problems=(problem,), workers=())
    assert status_text(status).splitlines()[1:3] == [
        "STOPPED  No worker is running\\n\\x1b[2J\\u202e (since 2030-01-01 12:00:00)",
        "         first: start one",
    ]


def test_a_page_isolates_what_others_wrote() -> None:
    worker = Worker(name="w\u202e\u2066<b>\x1b", pid=7, host="ה", started_at=NOON)
    html = bytes(
        page("status.html", {"status": Status(app="shop", at=NOON, workers=(worker,))}).body
    )
    assert b"<bdi>w\\u202e\\u2066&lt;b&gt;\\x1b</bdi>" in html
    assert "<bdi>ה</bdi>".encode() in html


@pytest.mark.parametrize(
    "price", ["1e999990", 1e300, -1, 10**30, "450", None], ids=lambda price: str(price)[:9]
)
def test_a_price_that_is_none_makes_no_text(price: Any) -> None:
    item = {"sku": "tea", "quantity": 1, "unit_price": price}
    for data in (ORDER | {"items": [item]}, ORDER | {"total": price}):
        with pytest.raises(NoticeUnusable) as refused:
            render(NotificationKind.ORDER_CONFIRMED, data)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 200


@pytest.mark.parametrize("name", ["=?utf-8?q?=0D=0ABcc:_v@x.org?=", "a\nb", "a\u202eb", "x" * 201])
def test_a_name_that_may_not_stand_in_a_subject_makes_no_mail(name: str) -> None:
    with pytest.raises(NoticeUnusable, match="name"):
        render(NotificationKind.WELCOME, {"name": name})
