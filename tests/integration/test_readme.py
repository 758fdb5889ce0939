"""The README's Python runs as it stands there, but for its URLs."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import pytest

from redfaust.postgres.database import Database
from tests.integration.faust_apps import eventually, new_app, running
from tests.integration.test_failures_agents import all_finished
from tests.integration.test_faust_app import fetch
from tests.rights import as_owner

README = Path(__file__).parents[2] / "README.md"


def block_with(text: str) -> str:
    """The one block of Python that contains a text."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    [block] = [block for block in blocks if text in block]
    return str(block)


async def test_the_first_agent_books_payments(any_broker_url: str, database_url: str) -> None:
    source = block_with('"bank"')
    assert source.count("\n") <= 20
    source = source.replace("redis://localhost", any_broker_url)
    source = source.replace("postgresql://localhost/bank", database_url)
    module: dict[str, Any] = {"__name__": "bank"}
    exec(compile(source, "README.md", "exec"), module)
    app = module["app"]
    app.conf.web_enabled = False
    async with running(app):
        for amount in (200, 0, 50):
            await module["payments"].send(key="ann", value={"amount": amount})
        connection = await asyncpg.connect(database_url)
        try:
            await eventually(lambda: _is(connection, "SELECT value FROM bank.balances", 250))
            await eventually(lambda: _is(connection, "SELECT 1 FROM redfaust.dead_letters", 1))
        finally:
            await connection.close()


async def _is(connection: Any, query: str, expected: int) -> bool:
    return await connection.fetchval(query) in (expected, str(expected))


async def test_the_test_of_an_application_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = ModuleType("bank")
    exec(compile(block_with('"bank"'), "README.md", "exec"), vars(bank))
    monkeypatch.setitem(sys.modules, "bank", bank)
    module: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block_with("in_memory(app)"), "README.md", "exec"), module)
    await module["test_payments_are_booked"]()


async def test_events_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    app = new_app("memory://typed-readme")
    module: dict[str, Any] = {"__name__": "readme", "app": app}
    exec(compile(block_with("value_type=Payment"), "README.md", "exec"), module)
    async with running(app):
        await module["payments"].send(key="a", value={"amount": 250, "sku": "tea"})
        await eventually(lambda: capsys.readouterr().out == "tea 250\n")


async def test_a_table_that_is_larger_than_memory(database_url: str) -> None:
    app = new_app("memory://readme", database_url)
    module: dict[str, Any] = {"app": app}
    exec(compile(block_with("cached_rows"), "README.md", "exec"), module)
    accounts, topic = module["accounts"], app.topic("payments", key_type=str)

    @app.agent(topic)
    async def book(stream: Any) -> None:
        async for key, amount in stream.items():
            accounts[key] += amount

    async with running(app):
        await topic.send(key="ann", value=250)
        await eventually(lambda: all_finished(app, "payments"))
        assert accounts.data.cache.size == 100_000
    assert await fetch(database_url, "SELECT key, value::int FROM test.accounts") == [("ann", 250)]


async def test_many_things_are_done_at_a_time(database_url: str) -> None:
    class Provider:
        """Takes no payment before it has been asked for eight."""

        def __init__(self) -> None:
            self._all = asyncio.Barrier(8)

        async def charge(self, amount: int, *, idempotency_key: str) -> None:
            assert idempotency_key == f"i-{amount}"
            await self._all.wait()

    app = new_app("memory://charge", database_url)
    invoices, charged = app.topic("invoices", key_type=str), app.topic("charged", key_type=str)
    given = {"app": app, "invoices": invoices, "charged": charged, "provider": Provider()}
    source = block_with('delivery="shared"')
    exec(compile(source, "README.md", "exec"), {"__name__": "readme", **given})
    amounts: list[int] = []

    @app.agent(charged)
    async def hear(stream: Any) -> None:
        async for amount in stream:
            amounts.append(amount)

    async with running(app):
        for number in range(8):
            await invoices.send(key="one", value={"id": f"i-{number}", "amount": number})
        await eventually(lambda: sorted(amounts) == list(range(8)))


async def test_rows_and_events_are_sent_from_elsewhere(database_url: str) -> None:
    """By SQL and by Python, as they stand there."""
    database = await Database.connect(as_owner(database_url))
    try:
        [sql] = re.findall(r"```sql\n(.*?)```", README.read_text(), re.DOTALL)
        await database.pool.execute(sql)
        module: dict[str, Any] = {"__name__": "readme"}
        exec(compile(block_with("async def ship"), "README.md", "exec"), module)
        await module["ship"](database, "o-2")
    finally:
        await database.close()
    rows = [("o-1", "shipped"), ("o-2", "shipped")]
    sent = "SELECT convert_from(key, 'UTF8'), convert_from(value, 'UTF8')::json->>'status'"
    assert await fetch(database_url, f"{sent} FROM redfaust.outbox ORDER BY id") == rows
    assert await fetch(database_url, "SELECT order_id FROM shipments") == [("o-1",), ("o-2",)]


async def test_what_is_given_up_is_told(database_url: str) -> None:
    app = new_app("memory://told", database_url)
    calls, failures = app.topic("calls", key_type=str), app.topic("failures", key_type=str)
    given = {"app": app, "calls": calls, "failures": failures}
    module: dict[str, Any] = {"__name__": "readme", **given}
    source = block_with("on_give_up=tell").replace("...\n", 'raise ValueError("hopeless")\n')
    exec(compile(source, "README.md", "exec"), module)
    told: list[str] = []

    @app.agent(failures)
    async def hear(stream: Any) -> None:
        async for text in stream:
            told.append(text)

    async with running(app):
        await calls.send(key="a", value=1)
        await eventually(lambda: told == ["hopeless"])
        await eventually(lambda: all_finished(app, "calls"))
    assert await fetch(database_url, "SELECT attempts FROM redfaust.dead_letters") == [(1,)]
