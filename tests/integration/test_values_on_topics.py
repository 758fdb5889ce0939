"""Values that JSON cannot hold are refused where they are sent, and numbers come as they were."""

from __future__ import annotations

from typing import Any

import pytest
from faust.types import TP
from pydantic import BaseModel

from tests.integration.faust_apps import eventually, new_app, running

LARGE = 12345678901234567890123
"""More than 64 bits have place for."""


class Pay(BaseModel):
    amount: float | None = None


@pytest.mark.parametrize(
    ("value_type", "value"),
    [
        (None, float("nan")),
        (None, {"x": [float("inf")]}),
        (float, float("nan")),
        (Pay, Pay(amount=float("nan"))),
        (None, Pay(amount=float("-inf"))),
    ],
    ids=repr,
)
async def test_what_json_has_no_number_for_is_refused_where_it_is_sent(
    memory_url: str, value_type: Any, value: Any
) -> None:
    app = new_app(memory_url)
    topic = app.topic("pays", key_type=str, value_type=value_type)
    async with running(app):
        with pytest.raises(ValueError, match="neither NaN nor infinity"):
            await topic.send(key="a", value=value)
        with pytest.raises(ValueError, match="neither NaN nor infinity"):
            topic.send_soon(key="a", value=value)


@pytest.mark.parametrize(
    ("value_type", "text", "value"),
    [
        (int, f"{LARGE}", LARGE),
        (None, f"{LARGE}", LARGE),
        (None, f'{{"a": [-{LARGE}, 1.5]}}', {"a": [-LARGE, 1.5]}),
        (dict[str, int], f'{{"a": {LARGE}}}', {"a": LARGE}),
    ],
    ids=repr,
)
async def test_an_integer_is_read_as_it_was_sent(
    memory_url: str, value_type: Any, text: str, value: Any
) -> None:
    app = new_app(memory_url)
    topic, seen = app.topic("numbers", key_type=str, value_type=value_type), list[Any]()

    @app.agent(topic)
    async def see(stream: Any) -> None:
        async for number in stream:
            seen.append(number)

    async with running(app):
        await topic.send(key="a", value=text.encode(), value_serializer="raw")
        await eventually(lambda: seen == [value])


@pytest.mark.parametrize(
    ("value_type", "stored"),
    [(None, None), (int, None), (Pay, None), (Pay | None, b"null")],
    ids=repr,
)
async def test_none_deletes_where_the_type_does_not_have_it(
    memory_url: str, value_type: Any, stored: bytes | None
) -> None:
    app = new_app(memory_url, partitions=1)
    topic = app.topic("pays", key_type=str, value_type=value_type)
    async with running(app):
        await (await topic.send(key="a", value=None))
        broker: Any = app.transport.broker  # type: ignore[attr-defined] # ours
        found = await broker.read({TP("pays", 0): 0}, limit=10, wait=1)
    assert [record.value for records in found.values() for record in records] == [stored]
