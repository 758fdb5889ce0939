"""Applications whose events, keys and rows are of types that pydantic knows."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import UUID

import faust
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, Field

from app.cli import main
from tests.integration.faust_apps import PATIENCE, eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.integration.test_faust_app import fetch


class Account(BaseModel, frozen=True):
    bank: str
    number: int


class Payment(BaseModel):
    amount: int = Field(gt=0)
    account: Account
    password: str = ""


class Balance(BaseModel):
    cents: int = 0
    from_bank: str = Field(default="", alias="fromBank")


ANN, BOB = Account(bank="gls", number=1), Account(bank="gls", number=2)


def topic(app: faust.App, name: str, **types: Any) -> Any:
    """Faust's annotations know only its own models."""
    return app.topic(name, **types)


async def test_models_are_events_keys_and_rows(database_url: str) -> None:
    app = new_app("memory://typed", database_url)
    payments = topic(app, "payments", key_type=UUID, value_type=list[Payment])
    booked = topic(app, "booked", key_type=Account, value_type=Payment)
    balances = app.Table("balances", key_type=Account, value_type=Balance, default=Balance)
    seen = app.Table("seen", key_type=Account, default=int).tumbling(3600)
    failing = True

    @app.agent(payments)
    async def split(stream: Any) -> None:
        async for key, several in stream.items():
            assert isinstance(key, UUID)
            for payment in several:
                await booked.send(key=payment.account, value=payment)

    @app.agent(booked)
    async def book(stream: Any) -> None:
        nonlocal failing
        async for account, payment in stream.items():
            balance = balances[account]
            balance.cents += payment.amount
            balance.from_bank = account.bank
            balances[account] = balance
            seen[account] += 1
            if failing and account == BOB and payment.amount == 2:
                failing = False
                raise ValueError("once")  # and the row, which was changed in place, is as before

    async with running(app):
        for cents in (1, 2):
            several = [Payment(amount=cents, account=account) for account in (ANN, BOB)]
            await payments.send(key=UUID(int=7), value=several)
        await eventually(lambda: balances.data.get(BOB) == Balance(cents=3, fromBank="gls"))
        await eventually(lambda: all_finished(app, "booked"))
    query = "SELECT key ->> 'number', cents::int, from_bank FROM test.balances ORDER BY 1"
    assert await fetch(database_url, query) == [("1", 3, "gls"), ("2", 3, "gls")]
    again = new_app("memory://typed", database_url)
    table = again.Table("balances", key_type=Account, value_type=Balance, default=Balance)
    windows = again.Table("seen", key_type=Account, default=int).tumbling(3600)
    events = topic(again, "booked", key_type=Account, value_type=Payment)

    @again.agent(events)
    async def idle(stream: Any) -> None:
        async for _ in stream:
            pass

    async with running(again):
        await eventually(lambda: len(table.data) == 2)
        assert table.data[ANN] == Balance(cents=3, fromBank="gls")
        assert sorted(key[0].number for key in windows.table.data) == [1, 2]


async def test_a_stream_is_regrouped_by_a_field() -> None:
    app = new_app("memory://regrouped")
    payments = topic(app, "payments", value_type=Payment)
    seen: list[tuple[Any, Any]] = []
    both = asyncio.Event()

    @app.agent(payments)
    async def hear(stream: Any) -> None:
        by_bank = stream.group_by(lambda payment: payment.account.bank, name="bank")
        async for bank, payment in by_bank.items():
            seen.append((bank, payment))
            if len(seen) == 2:
                both.set()

    async with running(app):
        paid = [Payment(amount=1, account=account) for account in (ANN, BOB)]
        for payment in paid:
            await hear.send(value=payment)
        await asyncio.wait_for(both.wait(), PATIENCE)
    assert sorted((bank, payment.account.number) for bank, payment in seen) == [
        (b"gls", 1),
        (b"gls", 2),
    ]
    assert all(type(payment) is Payment for _, payment in seen)


async def test_models_need_no_declared_topic() -> None:
    app = new_app("memory://undeclared")
    anything = app.topic("anything")
    heard: asyncio.Queue[Any] = asyncio.Queue()

    @app.agent(anything)
    async def hear(stream: Any) -> None:
        async for value in stream:
            await heard.put(value)

    async with running(app):
        await anything.send(key="a", value=Payment(amount=1, account=ANN))
        await anything.send(key="a", value={"all": [ANN]})
        first, second = [await asyncio.wait_for(heard.get(), PATIENCE) for _ in range(2)]
    assert first == {"amount": 1, "account": {"bank": "gls", "number": 1}, "password": ""}
    assert second == {"all": [{"bank": "gls", "number": 1}]}


REFUSED = {"amount": 0, "account": {"bank": "gls", "number": "hush"}}


async def test_what_is_refused_is_a_dead_letter_that_says_why(database_url: str) -> None:
    app = new_app("memory://refused", database_url)
    payments = topic(app, "payments", value_type=Payment)

    @app.agent(payments)
    async def never(stream: Any) -> None:
        async for _ in stream:
            raise AssertionError("it is no payment")

    async with running(app):
        await app.send("payments", value=REFUSED)
        await eventually(lambda: all_finished(app, "payments"))
    options = ["dead-letters", "show", "1"]
    env = {"REDFAUST_DATABASE": database_url, "REDFAUST_BROKER": "redis://127.0.0.1:1"}
    result = await asyncio.to_thread(CliRunner().invoke, main, options, env=env)
    shown = result.output
    error = "Payment: amount: Input should be greater than 0; account.number: Input should be"
    assert f"{'error':<15} {error} a valid integer" in shown, shown
    reason, preview = shown.partition("preview")[::2]
    assert "hush" in preview.splitlines()[0]
    assert "hush" not in reason + "".join(preview.splitlines()[1:])


async def test_without_postgres_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = new_app("memory://logged")
    payments = topic(app, "payments", value_type=Payment)
    heard = asyncio.Event()

    @app.agent(payments)
    async def hear(stream: Any) -> None:
        async for payment in stream:
            assert payment == Payment(amount=1, account=ANN)
            heard.set()

    with caplog.at_level(logging.ERROR):
        async with running(app):
            await app.send("payments", key="a", value=REFUSED)
            await payments.send(key="a", value=Payment(amount=1, account=ANN))
            await asyncio.wait_for(heard.wait(), PATIENCE)
    [record] = [r for r in caplog.records if "lost the event" in r.getMessage()]
    assert record.exc_info is not None
    assert "amount: Input should be greater than 0" in str(record.exc_info[1])
