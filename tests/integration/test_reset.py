"""Tables emptied, and computed anew from the oldest events on."""

from __future__ import annotations

import asyncio
from typing import Any

import faust
import pytest

from redfaust import failpoints
from redfaust.errors import ResetRefused
from redfaust.tables.reset import reset
from tests.integration.faust_apps import eventually, new_app, running


def counting(broker: str, database: str) -> tuple[faust.App, Any, Any]:
    app = new_app(broker, database)
    words = app.topic("words", key_type=str)
    counts = app.Table("counts", key_type=str, value_type=int, default=int)

    @app.agent(words)
    async def count(stream: Any) -> None:
        async for word, number in stream.items():
            counts[word] += number

    return app, words, counts


async def counted(broker: str, database: str, *, sent: int, total: int) -> None:
    app, words, counts = counting(broker, database)
    async with running(app):
        for _ in range(sent):
            await words.send(key="word", value=1)
        await eventually(lambda: counts["word"] == total)
        with pytest.raises(ResetRefused, match="1 workers run"):
            await reset(counting(broker, database)[0])


async def test_tables_are_computed_anew(any_broker_url: str, database_url: str) -> None:
    await counted(any_broker_url, database_url, sent=5, total=5)
    assert await reset(counting(any_broker_url, database_url)[0]) == {"counts": 1}
    assert await reset(counting(any_broker_url, database_url)[0]) == {"counts": 0}
    await counted(any_broker_url, database_url, sent=0, total=5)
    await counted(any_broker_url, database_url, sent=2, total=7)


async def test_one_that_was_interrupted_has_changed_nothing(
    any_broker_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await counted(any_broker_url, database_url, sent=5, total=5)

    def interrupt(name: str) -> None:
        if name == "reset.left":
            raise asyncio.CancelledError

    monkeypatch.setattr(failpoints, "point", interrupt)
    with pytest.raises(asyncio.CancelledError):
        await reset(counting(any_broker_url, database_url)[0])
    monkeypatch.undo()
    await counted(any_broker_url, database_url, sent=1, total=6)


async def test_a_table_with_a_changelog_is_left_alone(database_url: str) -> None:
    app, _, _ = counting("memory://mixed", database_url)
    app.GlobalTable("everywhere", store="memory://tables")
    with pytest.raises(ResetRefused, match="changelog"):
        await reset(app)
